"""One fleet from the command line to its end, and everything a user finds afterwards."""

import csv
import json
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fedcore.cli.main import app
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.outcome import PHASES
from fedcore.core.contract.protocols import Json
from tests.whole.stage import Stage, children, events, summary_of, texts
from tests.whole.stranger import ask_stranger

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "tiny"
rounds = 4
[model]
path = "{model}"
max_length = 16
[data]
train = "rows.csv"
[strategy]
ranks = [2, 4]
warmup_rounds = 1
recovery_rounds = 1
[training]
local_steps = 3
batch_size = 8
[coordinator]
min_devices = 3
[[fleet.class]]
name = "big"
count = 2
memory_mb = 64
downlink_mbps = 20
target_sparsity = 0.25
[[fleet.class]]
name = "small"
slowdown = 1.5
memory_mb = 48
network = "thin"
uplink_mbps = 1
downlink_mbps = 4
target_sparsity = 0.5
"""
DEVICES = {"big-0": "big", "big-1": "big", "small-0": "small"}
UPLINK_BITS_PER_S = 1e6  # of class small


@dataclass
class Finished:
    """A run that has ended, and the process that ran it."""

    stage: Stage
    run: Path
    summary: Json
    fleet: "subprocess.CompletedProcess[str]"
    pid: int


@pytest.fixture(scope="module")
def finished(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    stage = Stage(tmp_path_factory.mktemp("fleet"))
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 150)])
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--reference", "--run-dir", "run")
    code = fleet.ends()
    done = subprocess.CompletedProcess(fleet.process.args, code, fleet.output())
    assert code == 0, done.stdout[-3000:]
    run = stage.root / "run"
    yield Finished(stage, run, summary_of(run), done, fleet.process.pid)
    stage.close()


def test_the_terminal_tells_rounds_classes_and_where_things_lie(finished: Finished) -> None:
    said = finished.fleet.stdout
    assert said.startswith("run folder: run\n")
    for words in (
        "round 4/4",
        "untrained",
        "big-0",
        "small",
        "of dense",
        "pruned: accuracy",
        "to beat: always",
        "exports: run",
    ):
        assert words in said
    assert "centralised LoRA on the dense model, as many steps: accuracy" in " ".join(said.split())
    # tables fit 80 columns; running lines are not cut, and those of floors and warnings are sentences
    sentences = ("warning: ", "floors, ", "round ")
    lines = [line for line in said.splitlines() if not any(word in line for word in sentences)]
    assert [line for line in lines if len(line) > 120] == []
    assert "Traceback" not in said and "Warning" not in said


def test_no_process_complains(finished: Finished) -> None:
    logs = {log.stem: log.read_text() for log in (finished.run / "logs").iterdir()}
    assert set(logs) == {"coordinator", "evaluator", *DEVICES}
    for name, text in logs.items():
        assert "Traceback" not in text and "Warning" not in text and "error" not in text.lower(), (name, text)


def test_no_process_is_left(finished: Finished) -> None:
    assert children(finished.pid) == []


def test_nothing_is_written_at_home(finished: Finished) -> None:
    assert list(finished.stage.home.rglob("*")) == []
    assert sorted(each.name for each in finished.stage.root.iterdir()) == [
        "cfg.toml",
        "fleet.out",
        "home",
        "rows.csv",
        "run",
    ]


def test_keys_are_for_the_owner_alone(finished: Finished) -> None:
    certs = finished.run / "certs"
    assert stat.S_IMODE(certs.stat().st_mode) == 0o700
    keys = list(certs.glob("*.key"))
    assert {key.stem for key in keys} == {"ca", "coordinator", "evaluator", *DEVICES}
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_the_resolved_configuration_is_complete(finished: Finished) -> None:
    config = parse_config((finished.run / "config.toml").read_text())
    assert config.data.labels == ("neg", "pos")
    assert (config.run.rounds, config.strategy.bandit, config.training.codec) == (4, "linucb", "bf16+zstd")
    assert [each.name for each in config.classes] == ["big", "small"]


def test_the_summary_tells_the_run(finished: Finished) -> None:
    summary = finished.summary
    assert summary["schema"] == 1
    assert summary["run"] == {
        "name": "tiny",
        "status": "finished",
        "seed": 0,
        "strategy": "fedspine",
        "aggregator": "factor-mean",
        "bandit": "linucb",
        "task": "classification",
        "labels": ["neg", "pos"],
    }
    assert summary["floors"]["majority"]["rows"] == summary["global"]["final"]["rows"]
    assert summary["warnings"] == [each["message"] for each in events(finished.run, "warning")]
    assert summary["rounds"][-1]["evaluated_class"] in ("big", "small")
    networks = summary["networks"]
    assert {name: each["devices"] for name, each in networks.items()} == {"thin": 1, "unknown": 2}
    assert networks["thin"]["uplink_share"] > networks["unknown"]["uplink_share"]
    totals = summary["totals"]
    # Trials of rates take two devices' steps of the first round but one; the third, of nearly one label, has no trial.
    # A device that would wait for slower ones takes up to twice its steps.
    steps = 1 + 1 + 3 + 3 * 3 * 3
    assert (totals["rounds"], totals["void_rounds"]) == (4, 0) and steps <= totals["steps"] <= 2 * steps
    assert totals["bytes_up"] == sum(each["bytes_up"] for each in summary["rounds"]) > 0


@pytest.mark.parametrize("which", ["untrained", "final", "reference"])
def test_the_global_adapter_is_measured(finished: Finished, which: str) -> None:
    metrics = finished.summary["global"][which]
    assert {"accuracy", "auc", "macro_f1", "loss", "rows"} <= set(metrics)
    assert all(0 <= metrics[key] <= 1 for key in ("accuracy", "auc", "macro_f1"))
    assert metrics["rows"] > 10


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_round_tells_quality_phases_bytes_arms_and_rewards(finished: Finished, number: int) -> None:
    told = finished.summary["rounds"][number - 1]
    assert (told["round"], told["void"], told["accepted"], told["devices"]) == (number, False, 3, 3)
    assert all(0 <= told[key] <= 1 for key in ("accuracy", "auc", "macro_f1"))
    assert set(told["phase_s"]) == {*PHASES, "wait", "fold", "aggregate"}
    assert told["clock_faults"] == 0 and told["close_s"] > 0
    assert all(seconds >= 0 for seconds in told["phase_s"].values())
    assert told["phase_s"]["train"] > 0
    assert told["bytes_up"] > 0 and told["bytes_down"] > 0
    rows = {row["device"]: row for row in told["results"]}
    assert {name: row["class"] for name, row in rows.items()} == DEVICES
    for row in rows.values():
        assert row["status"] == "accepted"
        assert 0 <= row["reward"] <= 1
        assert row["rank"] in (2, 4)
        assert 0 <= row["sparsity"] < 0.6
    if number == 1:  # the warm-up
        assert {row["sparsity"] for row in rows.values()} == {0.0}


def test_nobody_ever_grows_again_and_targets_are_reached(finished: Finished) -> None:
    for device, device_class in DEVICES.items():
        rows = [row for each in finished.summary["rounds"] for row in each["results"] if row["device"] == device]
        sparsities = [row["sparsity"] for row in rows]
        assert sparsities == sorted(sparsities)
        assert sparsities[-1] >= finished.summary["classes"][device_class]["target_sparsity"]


def test_a_thin_uplink_takes_its_time(finished: Finished) -> None:
    with (finished.run / "rounds.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["class"] == "small"]
    assert len(rows) == 4
    for row in rows:
        assert float(row["upload_s"]) >= 0.99 * float(row["bytes_up"]) * 8 / UPLINK_BITS_PER_S


@pytest.mark.parametrize(("name", "target"), [("big", 0.25), ("small", 0.5)])
def test_every_class_tells_what_it_became(finished: Finished, name: str, target: float) -> None:
    told = finished.summary["classes"][name]
    assert told["target_sparsity"] == target
    assert target <= told["realised_sparsity"] < target + 0.1
    assert told["heads_kept"] < told["heads_dense"] == 4
    assert told["channels_kept"] < told["channels_dense"] == 48
    assert told["parameters"] < told["dense_parameters"]
    assert told["size_bytes"] < told["dense_size_bytes"]
    assert told["latency_s"] > 0 and told["latency_ratio"] == told["latency_s"] / told["dense_latency_s"]
    assert 0 < told["peak_training_memory_mb"] < 48
    assert 0 <= told["test"]["accuracy"] <= 1 and told["test"]["rows"] == finished.summary["global"]["final"]["rows"]


def test_the_sparser_class_is_smaller(finished: Finished) -> None:
    big, small = (finished.summary["classes"][name] for name in ("big", "small"))
    for key in ("parameters", "size_bytes", "channels_kept", "heads_kept"):
        assert small[key] < big[key]


def test_rounds_csv_has_a_row_per_round_and_device(finished: Finished) -> None:
    with (finished.run / "rounds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [row for each in finished.summary["rounds"] for row in each["results"]]
    assert [(int(row["round"]), row["device"], float(row["reward"])) for row in rows] == [
        (row["round"], row["device"], row["reward"]) for row in told
    ]


def test_events_hold_every_choice_reward_and_evaluation(finished: Finished) -> None:
    pairs = {(number, device) for number in range(1, 5) for device in DEVICES}
    for kind in ("choice", "pushed", "accepted", "reward"):
        assert {(each["round"], each["device"]) for each in events(finished.run, kind)} == pairs, kind
    tasks = {each["task"] for each in events(finished.run, "evaluated")}
    assert tasks == {*(f"round {number}" for number in range(5)), "final", "reference", "export big", "export small"}
    assert [each["void"] for each in events(finished.run, "round_closed")] == [False] * 4
    assert {each["device"] for each in events(finished.run, "joined")} == {"evaluator", *DEVICES}


@pytest.fixture(scope="module")
def exported(finished: Finished) -> Json:
    """`fedcore export` by class and by sparsity, as JSON; in this process, which has torch loaded already."""
    told = {}
    for name, words in {"as-small": ["--class", "small"], "dense": ["--sparsity", "0"]}.items():
        out = finished.stage.root / name
        done = CliRunner().invoke(app, ["export", str(finished.run), *words, "--out", str(out), "--json"])
        assert done.exit_code == 0, done.output
        told[name] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def told_by_stranger(finished: Finished, exported: Json, bert: Path) -> Json:
    root, run = finished.stage.root, finished.run
    folders = [run / "exports" / "big", run / "exports" / "small", root / "as-small", root / "dense"]
    return ask_stranger(finished.stage, exports=folders, base=bert, adapter=run / "global", trust=True)


@pytest.mark.parametrize("name", ["big", "small"])
def test_plain_transformers_gives_the_logits_of_the_run(finished: Finished, told_by_stranger: Json, name: str) -> None:
    told = told_by_stranger[name]
    assert told["rows"] >= 8
    assert told["error"] <= 1e-4
    assert told["labels"] == ["neg", "pos"]
    assert told["parameters"] == finished.summary["classes"][name]["parameters"]


def test_exports_are_smaller_than_the_dense_model(told_by_stranger: Json) -> None:
    small, big, dense = (told_by_stranger[name]["parameters"] for name in ("small", "big", "dense"))
    assert small < big < dense


def test_the_global_adapter_loads_with_peft(told_by_stranger: Json) -> None:
    assert told_by_stranger["adapter"]["changes"] > 1e-3
    assert told_by_stranger["adapter"]["off by"] < 1e-4


def test_an_export_made_later_is_the_one_of_the_run(finished: Finished, exported: Json) -> None:
    one = load_file(finished.run / "exports" / "small" / "model.safetensors")
    two = load_file(finished.stage.root / "as-small" / "model.safetensors")
    assert one.keys() == two.keys()
    assert all((one[name] == two[name]).all() for name in one)
    assert exported["as-small"]["sparsity"] == finished.summary["classes"]["small"]["realised_sparsity"]
    assert exported["dense"]["sparsity"] == 0


def test_show_tells_the_same_again_and_replays_every_choice(finished: Finished) -> None:
    done = finished.stage.run("show", "run", "--replay")
    assert done.returncode == 0, done.stderr
    assert "pruned: accuracy" in done.stdout
    assert done.stdout.rstrip().endswith("replayed 12 choices: all equal")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_show_speaks_json(finished: Finished) -> None:
    done = finished.stage.run("show", "run", "--json", "--replay")
    status = json.loads(done.stdout)
    assert (status["replayed_choices"], status["next_round"], status["address"]) == (12, None, None)
    assert status["summary"] == finished.summary


@pytest.mark.parametrize("words", [["fleet", "--resume", "run"], ["serve", "--resume", "run", "--certs", "run/certs"]])
def test_a_finished_run_cannot_go_on(finished: Finished, words: list[str]) -> None:
    done = finished.stage.run(*words)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: run has finished; ") and done.stderr.count("\n") == 1


def test_a_used_folder_is_not_overwritten(finished: Finished) -> None:
    done = finished.stage.run("fleet", "cfg.toml", "--run-dir", "run")
    assert done.returncode == 1
    assert "run exists and is not empty; choose a new folder, or go on with --resume run" in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--class", "huge"), "no device class 'huge' in this run; it has ['big', 'small']"),
        (("--sparsity", "1.2"), "--sparsity 1.2: expected a number in [0, 1)"),
    ],
)
def test_an_export_that_cannot_be_is_refused(finished: Finished, words: tuple[str, str], part: str) -> None:
    done = CliRunner().invoke(app, ["export", str(finished.run), *words, "--out", str(finished.stage.root / "never")])
    assert done.exit_code == 1
    assert part in str(done.exception)
    assert not (finished.stage.root / "never").exists()


def test_a_replay_finds_the_choice_that_was_changed(finished: Finished, tmp_path: Path) -> None:
    for name in ("config.toml", "ledger.sqlite"):
        shutil.copy(finished.run / name, tmp_path / name)
    changed = [
        each | ({"arm": {"sparsity": 0.5, "rank": 4}} if _is_third_choice(each) else {})
        for each in events(finished.run)
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(each) + "\n" for each in changed))
    done = CliRunner().invoke(app, ["show", str(tmp_path), "--replay"])
    assert done.exit_code == 1
    assert "replay differs in round 3 for device big-1: recorded {'sparsity': 0.5, 'rank': 4}" in str(done.exception)


def _is_third_choice(event: Json) -> bool:
    return (event["event"], event.get("round"), event.get("device")) == ("choice", 3, "big-1")
