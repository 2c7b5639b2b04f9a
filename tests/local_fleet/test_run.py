"""A whole fleet: which processes it starts, with which arguments, and how it ends."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fedcore.local_fleet.run as module
from fedcore.core.config.tables import ClassConfig, Config, DataConfig, FleetConfig, ModelConfig, RunConfig
from fedcore.core.errors import RunError
from fedcore.local_fleet.run import FleetOptions, run_fleet
from fedcore.local_fleet.watch import Crew
from fedcore.server.run.run_folder import RunFolder

OPTIONS = FleetOptions(reference=False)


class FakeChild:
    """A process that listens at NAME:1 and ends when the fleet is watched."""

    def __init__(self, name: str, failed: bool) -> None:
        self.name, self.failed = name, failed

    def last_words(self) -> str:
        return f"{self.name} has failed"

    def output(self) -> str:
        return f"{self.name}: joined"


class FakeProcesses:
    """Starts nothing and remembers what it was asked for."""

    latest: "FakeProcesses"
    failing: frozenset[str] = frozenset()

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.started: dict[str, list[str]] = {}
        self.stopped_first: list[str] = []
        FakeProcesses.latest = self

    def start(self, name: str, arguments: Sequence[str]) -> FakeChild:
        self.started[name] = list(arguments)
        return FakeChild(name, name in self.failing)

    def stop(self, *, first: FakeChild) -> None:
        self.stopped_first.append(first.name)

    def __enter__(self) -> "FakeProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """A run folder where every process is a fake one and watching writes the summary."""
    folder = RunFolder(tmp_path)

    def watch(_: RunFolder, crew: Crew, view: object) -> None:
        folder.summary.write_text(json.dumps({"devices": crew.devices}))

    monkeypatch.setattr(FakeProcesses, "failing", frozenset())
    monkeypatch.setattr(module, "Processes", FakeProcesses)
    monkeypatch.setattr(module, "watch", watch)
    monkeypatch.setattr(module, "listening_at", lambda path, child: f"{child.name}:1")
    monkeypatch.setattr("fedcore.local_fleet.edges.listening_at", lambda path, child: f"{child.name}:1")
    yield folder


def config(edges: tuple[int, ...] = ()) -> Config:
    return Config(
        run=RunConfig(rounds=3, seed=7),
        model=ModelConfig(path="/model"),
        data=DataConfig(train="/rows.csv", label="kind", text=("a", "b"), test="/test.csv", alpha=0.5),
        fleet=FleetConfig(edges=edges),
        classes=(ClassConfig(name="nx", count=2), ClassConfig(name="tx2", slowdown=2.0, network="5g")),
    )


def after(arguments: list[str], option: str) -> str:
    return arguments[arguments.index(option) + 1]


def run(folder: RunFolder, config: Config, options: FleetOptions = OPTIONS) -> Any:
    view: Any = None
    return run_fleet(folder, config, options, view)


def test_every_process_of_a_fleet_has_a_certificate_and_is_started_once(folder: RunFolder) -> None:
    assert run(folder, config()) == {"devices": ["nx-0", "nx-1", "tx2-0"]}
    started = FakeProcesses.latest.started
    assert list(started) == ["coordinator", "evaluator", "nx-0", "nx-1", "tx2-0"], "the coordinator first"
    assert {path.stem for path in folder.certificates.glob("*.pem")} == {"ca", *started}
    assert FakeProcesses.latest.stopped_first == ["coordinator"]
    assert FakeProcesses.latest.logs == folder.logs


def test_devices_share_the_rows_and_differ_in_their_limits(folder: RunFolder) -> None:
    run(folder, config())
    started = FakeProcesses.latest.started
    for index, name in enumerate(("nx-0", "nx-1", "tx2-0"), start=1):
        arguments = started[name]
        assert arguments[:2] == ["join", "coordinator:1"]
        assert (after(arguments, "--name"), after(arguments, "--shard")) == (name, f"{index}/3")
        assert (after(arguments, "--data"), after(arguments, "--test")) == ("/rows.csv", "/test.csv")
        assert (after(arguments, "--alpha"), after(arguments, "--state")) == ("0.5", str(folder.devices / name))
        assert [arguments[place + 1] for place, word in enumerate(arguments) if word == "--text"] == ["a", "b"]
    assert after(started["tx2-0"], "--slowdown") == "2.0" and after(started["tx2-0"], "--network") == "5g"
    assert after(started["nx-0"], "--slowdown") == "1.0" and "--network" not in started["nx-0"]
    assert after(started["evaluator"], "--role") == "evaluator" and "--shard" not in started["evaluator"]


def test_general_texts_are_for_the_devices(folder: RunFolder) -> None:
    settings = config()
    run(folder, replace(settings, data=replace(settings.data, replay="/texts.jsonl")))
    started = FakeProcesses.latest.started
    assert [name for name, words in started.items() if "--replay" in words] == ["nx-0", "nx-1", "tx2-0"]
    assert after(started["nx-0"], "--replay") == "/texts.jsonl"


def test_accelerators_are_dealt_to_the_devices_and_last_to_the_evaluator(folder: RunFolder) -> None:
    run(folder, config(), FleetOptions(reference=False, accelerators=("cuda:0", "cuda:1")))
    started = FakeProcesses.latest.started
    places = {name: after(words, "--device") for name, words in started.items() if name != "coordinator"}
    assert places == {"nx-0": "cuda:0", "nx-1": "cuda:1", "tx2-0": "cuda:0", "evaluator": "cuda:1"}
    run(folder, config())
    started = FakeProcesses.latest.started
    assert {after(words, "--device") for name, words in started.items() if name != "coordinator"} == {"cpu"}


def test_a_run_is_begun_once_and_then_resumed(folder: RunFolder) -> None:
    run(folder, config(), FleetOptions(reference=True, metrics="127.0.0.1:9"))
    arguments = FakeProcesses.latest.started["coordinator"]
    assert arguments[:4] == ["serve", str(folder.config), "--run-dir", str(folder.root)]
    assert arguments[-3:] == ["--reference", "--metrics", "127.0.0.1:9"]
    folder.ledger.touch()
    before = (folder.certificates / "nx-0.key").read_bytes()
    run(folder, config())
    arguments = FakeProcesses.latest.started["coordinator"]
    assert arguments[:3] == ["serve", "--resume", str(folder.root)]
    assert not {"--reference", "--metrics"} & {*arguments}
    assert (folder.certificates / "nx-0.key").read_bytes() == before


def test_devices_below_edges_join_the_nearest_first(folder: RunFolder) -> None:
    run(folder, config(edges=(2,)))
    started = FakeProcesses.latest.started
    assert list(started)[:3] == ["coordinator", "edge-1-0", "edge-1-1"]
    assert started["nx-0"][1] == "edge-1-0:1,edge-1-1:1,coordinator:1"
    assert started["nx-1"][1] == "edge-1-1:1,edge-1-0:1,coordinator:1"
    assert started["evaluator"][1] == "coordinator:1"


def test_a_coordinator_that_failed_ends_the_fleet_with_its_words(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeProcesses, "failing", frozenset({"coordinator"}))
    with pytest.raises(RunError, match=r"coordinator has failed$"):
        run(folder, config())  # before it began anything: there is nothing to go on with
    folder.events.write_text('{"t":0,"event":"started"}\n')
    with pytest.raises(RunError, match=r"coordinator has failed; go on with: fedcore fleet --resume"):
        run(folder, config())
    assert FakeProcesses.latest.stopped_first == ["coordinator"]
