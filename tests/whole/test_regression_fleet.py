"""A regression in a fleet of processes below an edge, dealt by a column, interrupted and finished."""

import csv
import json
import signal
from pathlib import Path

import pytest

from tests.whole.stage import PATIENCE_S, Stage, events, eventually, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "priced"
rounds = 3
[task]
kind = "regression"
[model]
path = "{model}"
max_length = 16
[data]
train = "rows.csv"
label = "price"
partition = "by:shop"
[strategy]
ranks = [2]
target_sparsity = 0.5
warmup_rounds = 1
recovery_rounds = 0
[training]
local_steps = 4
batch_size = 8
learning_rate = 0.02
[coordinator]
min_devices = 2
[fleet]
edges = [1]
[[fleet.class]]
name = "slow"
slowdown = 5
count = 2
"""


@pytest.mark.long  # a simulation learns numbers in tests/simulation/test_regression.py
def test_a_fleet_learns_prices(stage: Stage, bert: Path) -> None:
    priced = {"neg": "1000.5", "pos": "2500"}
    with (stage.root / "rows.csv").open("w", newline="") as file:
        rows = enumerate(texts(("neg", "pos"), 80))
        csv.writer(file).writerows(
            [
                ("shop", "text", "price"),
                *(("north" if row % 5 else "south", text, priced[kind]) for row, (text, kind) in rows),
            ]
        )
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    run = stage.root / "run"
    fleet = stage.start("fleet", "fleet", "cfg.toml", "--plain", "--run-dir", "run")
    eventually("a round closes", lambda: events(run, "round_closed"), 2 * PATIENCE_S)
    fleet.process.send_signal(signal.SIGINT)
    assert fleet.ends() == 1, fleet.output()
    assert "dealt by column 'shop': 2 values: north 79%, south 21%" in fleet.output()
    shown = (run / "config.toml").read_text()
    assert "low = " in shown and 'kind = "regression"' in shown and 'partition = "by:shop"' in shown

    finished = stage.run("fleet", "--resume", "run", "--plain", timeout=2 * PATIENCE_S)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    summary = summary_of(run)
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3] and summary["run"]["task"] == "regression"
    exported = summary["classes"]["slow"]["test"]
    assert exported["rmse"] > 0 and summary["floors"]["majority"]["spearman"] == 0.0
    assert 300 < summary["floors"]["majority"]["rmse"] < 1000
    assert "Spearman" in finished.stdout + finished.stderr
    config = json.loads((run / "exports" / "slow" / "config.json").read_text())
    assert config["problem_type"] == "regression"

    unsaid = stage.run("serve", "cfg.toml", "--insecure")
    assert unsaid.returncode == 1 and "say where most targets lie" in " ".join(unsaid.stderr.split())
