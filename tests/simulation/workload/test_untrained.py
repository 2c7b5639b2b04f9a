"""A whole simulation without training: from a configuration to its summary, through the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from typer.testing import CliRunner

from fedcore.cli.main import app
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import ConfigError, JoinRefused
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate as run
from fedcore.simulation.setup import read_setup
from fedcore.simulation.workload.loss_curve import LossCurve, effective
from fedcore.simulation.workload.untrained import CurveWorkload
from tests.simulation.virtual import Stopping
from tests.tiny_run import write_model

CONFIG = """
[run]
name = "none"
rounds = 5
[model]
path = "{model}"
max_length = 8
[strategy]
ranks = [1, 2]
warmup_rounds = 1
recovery_rounds = 1
{more}
[simulation]
training = "none"
[[fleet.class]]
name = "big"
count = 3
target_sparsity = 0.25
[[fleet.class]]
name = "small"
count = 3
slowdown = 4
uplink_mbps = 1
downlink_mbps = 2
dropout = 0.1
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_model(tmp_path / "model")
    path = tmp_path / "sim.toml"
    path.write_text(CONFIG.format(model=tmp_path / "model", more=""))
    return path


def simulate(*words: object) -> str:
    result = CliRunner().invoke(app, ["simulate", *map(str, words)])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def test_a_run_without_training_leaves_the_folder_of_a_run(config: Path, tmp_path: Path) -> None:
    output = simulate(config, "--run-dir", tmp_path / "run")
    assert "6 virtual devices" in output
    assert "round 5/5" in output
    folder = RunFolder(tmp_path / "run")
    summary = json.loads(folder.summary.read_text())
    assert summary["run"]["status"] == "finished"
    assert summary["totals"]["rounds"] == 5
    assert summary["global"]["final"] is None
    losses = [row["loss_before"] for record in summary["rounds"] for row in record["results"] if row["class"] == "big"]
    assert losses[0] == pytest.approx(LossCurve().level(0, 0))
    assert min(losses) < losses[0]
    assert summary["classes"]["small"]["realised_sparsity"] == pytest.approx(0.5, abs=0.15)
    for name in ("config.toml", "ledger.sqlite", "events.jsonl", "rounds.csv"):
        assert (folder.root / name).is_file()


def test_equal_seeds_leave_equal_summaries(config: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate(config, "--run-dir", tmp_path / name)
    for file in ("summary.json", "events.jsonl", "rounds.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    simulate(config, "--run-dir", tmp_path / "three", "--set", "run.seed=1")
    assert (tmp_path / "one" / "rounds.csv").read_bytes() != (tmp_path / "three" / "rounds.csv").read_bytes()


def test_a_curve_may_come_from_an_earlier_run(config: Path, tmp_path: Path) -> None:
    simulate(config, "--run-dir", tmp_path / "one", "--set", "run.rounds=8")
    simulate(config, "--run-dir", tmp_path / "two", "--set", f"simulation.curve={tmp_path / 'one'}")
    fitted = read_setup(parse_config(config.read_text(), [f"simulation.curve={tmp_path / 'one'}"])).curve
    assert fitted is not None
    assert fitted.start == pytest.approx(LossCurve().start, abs=0.1)


def test_choices_can_be_replayed(config: Path, tmp_path: Path) -> None:
    simulate(config, "--run-dir", tmp_path / "run")
    result = CliRunner().invoke(app, ["show", str(tmp_path / "run"), "--replay"])
    assert result.exit_code == 0, result.output
    assert "all equal" in result.output or "equal" in result.output


def test_torch_is_not_loaded_where_nothing_is_trained(config: Path, tmp_path: Path) -> None:
    words = ["simulate", str(config), "--run-dir", str(tmp_path / "run")]
    code = (
        "import sys\nfrom fedcore.cli.main import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[3]
    )
    assert done.returncode == 0, done.stderr


def test_a_run_that_was_interrupted_resumes_to_the_same_rows(config: Path, tmp_path: Path) -> None:
    simulate(config, "--run-dir", tmp_path / "whole")
    setup = read_setup(parse_config(config.read_text()))
    folder = RunFolder.create("broken", base=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(setup, Run.create(folder, setup.config, setup.model), [Stopping(3)])
    simulate("--resume", folder.root)
    assert (folder.root / "rounds.csv").read_bytes() == (tmp_path / "whole" / "rounds.csv").read_bytes()


def test_a_finished_run_is_not_resumed(config: Path, tmp_path: Path) -> None:
    simulate(config, "--run-dir", tmp_path / "run")
    result = CliRunner().invoke(app, ["simulate", "--resume", str(tmp_path / "run")])
    assert result.exit_code != 0
    assert "has finished" in str(result.exception)


@pytest.mark.parametrize(
    ("override", "error", "words"),
    [
        ("simulation.trace=nowhere.csv", Exception, "availability trace"),
        ("simulation.curve=nowhere", Exception, "give the folder of a finished run"),
        ("simulation.training=fast", ConfigError, "one of batched, one-by-one, none"),
        ("coordinator.min_devices=9", ConfigError, "make 6 device"),
        ("fleet.class.small.memory_mb=0.0001", None, ""),
        ("fleet.class.big.online_share=0.0", ConfigError, "online_share"),
        ("fleet.class.big.dropout=1.5", ConfigError, "dropout"),
    ],
)
def test_mistakes_are_reported_before_anything_is_written(
    config: Path, override: str, error: type[Exception] | None, words: str
) -> None:
    if error is None:  # some devices are refused, the others run
        assert set(read_setup(parse_config(config.read_text(), [override])).refused) == {"small"}
        return
    with pytest.raises(error, match=words):
        read_setup(parse_config(config.read_text(), [override]))


def test_a_fleet_in_which_no_device_may_join_is_refused(config: Path) -> None:
    overrides = [f"fleet.class.{name}.memory_mb=0.0001" for name in ("big", "small")]
    with pytest.raises(JoinRefused, match="0 of 6 devices would be left"):
        read_setup(parse_config(config.read_text(), overrides))


def test_a_configuration_without_devices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[\[fleet\.class\]\]"):
        read_setup(parse_config(""))


def curve_workload(*history: tuple[int, bool, list[Json]]) -> CurveWorkload:
    return CurveWorkload(
        curve=LossCurve(), cost=cast(Any, None), largest_rank=4, usual_steps=5, seed=1, history=lambda: history
    )


def row(status: str, steps: int | None, rank: int) -> Json:
    return {"status": status, "steps": steps, "rank": rank}


def test_a_resumed_fleet_is_where_its_counted_rounds_have_left_it() -> None:
    """A void round moves nobody on, nor does an update that was not accepted; of the others the mean counts."""
    workload = curve_workload(
        (1, False, [row("accepted", 5, 4), row("accepted", 10, 2), row("late", None, 4)]),
        (2, True, [row("accepted", 50, 4)]),
        (3, False, [row("accepted", 7, 1), row("lost", None, 4)]),
    )
    workload.recover(cast(Any, None))
    expected = (effective(5, 1.0) + effective(10, 0.5)) / 2 + effective(7, 0.25)
    assert workload.progress == pytest.approx(expected, rel=1e-12) and expected > 0


@pytest.mark.parametrize("void", [False, True])
def test_a_round_that_closes_moves_the_fleet_on_unless_it_is_void(void: bool) -> None:
    workload = curve_workload()
    workload._steps.update(a=3.0, b=5.0, c=100.0)
    members = tuple(
        MemberResult(device=device, status=status, pushed_at_s=0.0, accepted_at_s=None)
        for device, status in zip("abc", [MemberStatus.ACCEPTED] * 2 + [MemberStatus.LOST], strict=True)
    )
    workload.settle(RoundResult(round=1, void=void, members=members, opened_at_s=0.0, closed_at_s=1.0))
    assert workload.progress == (0.0 if void else 4.0) and workload._steps == {}
