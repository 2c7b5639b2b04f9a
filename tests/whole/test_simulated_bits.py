"""The same small fleet as processes and as virtual devices: the same model, bit for bit."""

import csv
from pathlib import Path

import pytest

from tests.whole.stage import Stage, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "both"
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
bandit = "fixed"
pace = "off"
[training]
local_steps = 3
batch_size = 8
keep_optimizer = true
downlink = "{downlink}"
[coordinator]
min_devices = 3
[simulation]
training = "one-by-one"
[[fleet.class]]
name = "big"
count = 2
memory_mb = 64
target_sparsity = 0.25
[[fleet.class]]
name = "small"
memory_mb = 48
target_sparsity = 0.5
codec = "ef+topk:0.5+int8+zstd"
"""
STACKING = '[strategy]\nname = "flora"'


def test_a_simulated_run_has_the_bits_of_the_real_one(bert: Path, stage: Stage) -> None:
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 150)])
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert, downlink="bf16"))
    real = stage.start("real", "fleet", "cfg.toml", "--plain", "--run-dir", "real")
    assert real.ends() == 0, real.output()
    simulated = stage.run("simulate", "cfg.toml", "--run-dir", "simulated")
    assert simulated.returncode == 0, simulated.stderr
    for file in ("adapter_model.safetensors", "head.safetensors"):
        whole = [(stage.root / run / "global" / file).read_bytes() for run in ("real", "simulated")]
        assert whole[0] == whole[1], file
    for name in ("big", "small"):
        kept = [
            (stage.root / run / "exports" / name / "model.safetensors").read_bytes() for run in ("real", "simulated")
        ]
        assert kept[0] == kept[1], name
    figures = [summary_of(stage.root / run) for run in ("real", "simulated")]
    for key in ("accuracy", "auc", "loss"):
        assert figures[0]["global"]["final"][key] == pytest.approx(figures[1]["global"]["final"][key])
    for one, other in zip(*(each["rounds"] for each in figures), strict=True):
        assert [row["bytes_up"] for row in one["results"]] == [row["bytes_up"] for row in other["results"]]
        assert [row["loss_after"] for row in one["results"]] == [row["loss_after"] for row in other["results"]]
        assert [row["peak_memory_mb"] for row in one["results"]] == [row["peak_memory_mb"] for row in other["results"]]


@pytest.mark.long
def test_so_has_one_whose_base_weights_move(bert: Path, stage: Stage) -> None:
    with (stage.root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *texts(("neg", "pos"), 60)])
    text = CONFIG.format(model=bert, downlink="full").replace('codec = "ef+topk:0.5+int8+zstd"', "slowdown = 2.0")
    (stage.root / "cfg.toml").write_text(text.replace("rounds = 4", "rounds = 3").replace("[strategy]", STACKING))
    real = stage.start("real", "fleet", "cfg.toml", "--plain", "--run-dir", "real")
    assert real.ends() == 0, real.output()
    simulated = stage.run("simulate", "cfg.toml", "--run-dir", "simulated")
    assert simulated.returncode == 0, simulated.stderr
    for file in ("global/base_shift.safetensors", "global/head.safetensors", "exports/big/model.safetensors"):
        whole = [(stage.root / run / file).read_bytes() for run in ("real", "simulated")]
        assert whole[0] == whole[1], file
    figures = [summary_of(stage.root / run) for run in ("real", "simulated")]
    assert figures[0]["global"]["final"]["loss"] == pytest.approx(figures[1]["global"]["final"]["loss"])
    for one, other in zip(*(each["rounds"] for each in figures), strict=True):
        assert [row["bytes_down"] for row in one["results"]] == [row["bytes_down"] for row in other["results"]]
        assert [row["loss_after"] for row in one["results"]] == [row["loss_after"] for row in other["results"]]
