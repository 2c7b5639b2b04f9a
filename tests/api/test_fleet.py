"""fedcore.fleet: what its processes are handed, what a mistake is told, and one real fleet with parts of one's own."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fedcore
import fedcore.api.fleet
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError, DataError, RunError
from fedcore.local_fleet.processes import Processes
from fedcore.local_fleet.run import FleetOptions
from fedcore.server.run.run_folder import RunFolder
from tests.api.conftest import Command
from tests.tiny_models import tiny_model
from tests.whole.stage import PATIENCE_S, children

ROWS = [{"text": f"a {('bad', 'good')[number % 2]} film {number}", "label": number % 2} for number in range(24)]
HELD = [{"text": "the good plot", "label": 1}, {"text": "the bad plot", "label": 0}]
PLUGIN = """
import fedcore
from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.bandit.fixed import FixedArm

@fedcore.strategy("mine", cites="arXiv 0000.00000")
def mine(config: fedcore.Config) -> fedcore.Config:
    return fedcore.load_config(config, {"strategy.aggregator": "half-step", "strategy.bandit": "calm"})

@fedcore.aggregator("half-step")
def half_step(server_lr, seed):
    return FactorMean(name="half-step", server_lr=server_lr / 2)

@fedcore.bandit("calm")
def calm(config):
    return FixedArm(name="calm", sparsity=0.0, rank=config.ranks[0])
"""
PROGRAM = """
import json, sys
import fedcore

if __name__ == "__main__":
    tables, rows, held = json.load(open("asked.json"))
    fedcore.fleet(tables, train=rows, test=held, rounds=500)
"""


@pytest.fixture
def tables(place: Path) -> dict[str, Any]:
    """Tables of a fleet of two devices."""
    tiny_model(place / "model", "bert")
    return {
        "run": {"name": "tiny", "rounds": 1},
        "model": {"path": "model", "max_length": 12},
        "strategy": {"ranks": [2], "warmup_rounds": 1, "recovery_rounds": 0},
        "training": {"local_steps": 1, "batch_size": 2},
        "coordinator": {"min_devices": 2},
        "fleet": {"class": [{"name": "phone", "count": 2}]},
    }


class Started:
    """Stands in for the processes: remembers what they would be handed."""

    def __call__(self, folder: RunFolder, config: Config, options: FleetOptions, view: Any) -> None:
        self.folder, self.config, self.options, self.view = folder, config, options, view


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    made = Started()
    monkeypatch.setattr("fedcore.api.fleet.run_fleet", made)
    return made


def test_what_the_processes_are_handed(tables: dict[str, Any], place: Path, started: Started) -> None:
    (place / "own_plugin.py").write_text(PLUGIN)
    run = fedcore.fleet(tables, train=ROWS, test=HELD, strategy="mine", plugins=["own_plugin.py"], reference=True)
    assert started.folder.root == run.path == Path("runs/tiny")
    assert run.config == started.config
    assert run.config.data.labels == ("0", "1")
    assert run.config.data.train == str(place / "runs" / "tiny" / "data" / "train.jsonl")
    assert json.loads((run.path / "data" / "test.jsonl").read_text().splitlines()[0]) == {**HELD[0], "label": "1"}
    assert started.options == FleetOptions(reference=True, plugins=(str(place / "own_plugin.py"),))
    del sys.modules["own_plugin"]


def test_it_is_silent_unless_asked(
    tables: dict[str, Any], started: Started, capsys: pytest.CaptureFixture[str]
) -> None:
    fedcore.fleet(tables, train=ROWS, test=HELD)
    assert type(started.view) is fedcore.api.fleet.Silent
    started.view.show(None)
    assert capsys.readouterr().out == ""
    fedcore.fleet(tables, train=ROWS, test=HELD, progress=True)
    assert type(started.view).__name__ == "PlainView"  # the output is no terminal


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"strategy": "fedprox"}, ConfigError, "^strategy.name: expected one of fedspine, .*; got 'fedprox'$"),
        ({"plugins": ["no_such_module"]}, ConfigError, "^no module 'no_such_module' for plugin no_such_module"),
        ({"train": [1]}, DataError, "^train: row 1: expected a dict"),
        (
            {"train": ROWS[:1], "overrides": {"data.labels": ["0", "1"]}},
            DataError,
            "^train: 1 training rows are too few for 2 devices",
        ),
        ({"overrides": {"coordinator.min_devices": 3}}, ConfigError, "^coordinator.min_devices is 3, but"),
        ({"run_dir": "model"}, RunError, "^model exists and is not empty"),
    ],
)
def test_a_mistake_is_told_before_a_process_starts(
    tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], error: type[Exception], message: str
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(Processes, "start", refuse)
    with pytest.raises(error, match=message):
        fedcore.fleet(tables, **{"train": ROWS, "test": HELD, **asked})
    assert not Path("runs").exists()


def test_parts_of_the_running_program_are_refused(tables: dict[str, Any], started: Started) -> None:
    def mine(config: fedcore.Config) -> fedcore.Config:
        return config

    mine.__module__ = "__main__"
    fedcore.strategy("mine")(mine)
    with pytest.raises(ConfigError, match=r"^strategy 'mine' is registered in the program that is running"):
        fedcore.fleet(tables, train=ROWS, test=HELD, strategy="mine")


@pytest.mark.slow
def test_a_fleet_with_parts_of_ones_own_and_an_edge(tables: dict[str, Any], place: Path, command: Command) -> None:
    (place / "own_plugin.py").write_text(PLUGIN)
    run = fedcore.fleet(
        tables,
        train=ROWS,
        test=HELD,
        strategy="mine",
        overrides={"fleet.edges": [1]},
        plugins="own_plugin.py",
    )
    del sys.modules["own_plugin"]
    named = {key: run.summary["run"][key] for key in ("strategy", "aggregator", "bandit", "status")}
    assert named == {"strategy": "mine", "aggregator": "half-step", "bandit": "calm", "status": "finished"}
    assert {row["device"] for row in run.rounds} <= {"phone-0", "phone-1"}
    assert run.export("phone") == run.path / "exports" / "phone"
    shown = command("show", "runs/tiny", "--replay", "--json", "--plugin", "own_plugin.py")
    assert json.loads(shown)["replayed_choices"] == len(run.rounds)


@pytest.mark.slow
def test_an_interrupt_stops_every_process(tables: dict[str, Any], place: Path) -> None:
    (place / "program.py").write_text(PROGRAM)
    (place / "asked.json").write_text(json.dumps([tables, ROWS, HELD]))
    process = subprocess.Popen([sys.executable, "program.py"], cwd=place, stderr=subprocess.PIPE, text=True)
    try:
        events, deadline = place / "runs" / "tiny" / "events.jsonl", time.monotonic() + PATIENCE_S
        while not (events.is_file() and "round_closed" in events.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(children(process.pid)) == 4
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=PATIENCE_S)
        assert complaints.splitlines()[-1] == "KeyboardInterrupt"
        assert children(process.pid) == []
    finally:
        process.kill()
        process.wait()
