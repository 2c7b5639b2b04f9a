"""A fleet that is interrupted leaves no process, says how to go on, and goes on."""

import csv
import signal
import time
from pathlib import Path

import pytest

from tests.whole.stage import Stage, children, events, eventually, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "stopped"
rounds = 3
[model]
path = "{model}"
max_length = 16
[data]
train = "rows.csv"
[strategy]
name = "fedavg-lora"
ranks = [2]
target_sparsity = 0.2
warmup_rounds = 1
recovery_rounds = 0
[training]
local_steps = 4
batch_size = 8
[coordinator]
min_devices = 2
[[fleet.class]]
name = "slow"
slowdown = 15
count = 2
"""


def test_a_fleet_can_be_stopped_killed_and_finished(stage: Stage, bert: Path) -> None:
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 60)])
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    run = stage.root / "run"

    # Ctrl-C after the first round.
    fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--run-dir", "run")
    eventually("a round closes", lambda: events(run, "round_closed"))
    assert len(children(fleet.process.pid)) == 4
    asked = time.monotonic()
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.ends(20) == 1
    assert time.monotonic() - asked < 10
    assert children(fleet.process.pid) == []
    last = fleet.output().splitlines()[-2:]
    assert last[0].endswith("Go on with: fedcore fleet --resume run")
    assert last[1] == "look at it with: fedcore show run"
    closed = [each["round"] for each in events(run, "round_closed")]
    assert closed in ([1], [1, 2])
    assert not (run / "summary.json").exists()

    # kill -9 of the fleet itself: its children notice.
    killed = stage.start("killed", "fleet", "--resume", "run", "--plain")
    eventually("everybody is started", lambda: len(children(killed.process.pid)) == 4)
    killed.process.send_signal(signal.SIGKILL)
    eventually("the orphans are gone", lambda: not children(killed.process.pid), 20)

    # And on to the end.
    finished = stage.run("fleet", "--resume", "run", "--plain")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    summary = summary_of(run)
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3]
    assert summary["global"]["final"] is not None
    assert (run / "exports" / "slow" / "model.safetensors").is_file()


def test_a_fleet_of_refused_devices_ends_before_its_join_deadline(stage: Stage, bert: Path) -> None:
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 40)])
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert).replace("count = 2", "count = 1\nmemory_mb = 0.01"))
    begun = time.monotonic()
    done = stage.run("fleet", "cfg.toml", "--plain", "--set", "coordinator.min_devices=1")
    assert done.returncode == 1
    assert time.monotonic() - begun < 10  # told before anything is started
    assert "device slow-0 of class slow: training needs" in done.stderr and done.stderr.count("\n") == 1
    assert not (stage.root / "runs").exists()
