"""One whole run of a coordinator and a device of this interpreter and a device of another: `python -m tests.matrix`."""

import json
import os
import sys
from pathlib import Path

from tests.tiny_models import tiny_model
from tests.whole.stage import PROGRAM, Stage, eventually, summary_of, texts

PATIENCE_S = 240.0
CONFIG = """
[run]
name = "mixed"
rounds = 2
[model]
path = "{model}"
max_length = 16
[data]
labels = ["neg", "pos"]
[strategy]
name = "fedspine"
target_sparsity = 0.25
ranks = [2]
[training]
local_steps = 3
learning_rate = 5e-3
[coordinator]
listen = "localhost:0"
min_devices = 2
"""


def test_a_device_of_another_interpreter_learns_beside_one_of_this(tmp_path: Path) -> None:
    other = os.environ.get("FEDCORE_MATRIX_PYTHON", sys.executable)
    stage = Stage(tmp_path)
    try:
        (tmp_path / "cfg.toml").write_text(CONFIG.format(model=tiny_model(tmp_path / "bert", "bert")))
        for name, seed in (("here", 0), ("there", 1)):
            rows = [json.dumps({"text": text, "label": label}) for text, label in texts(("neg", "pos"), 24, seed)]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
        coordinator = stage.start("serve", "serve", "cfg.toml", "--run-dir", "run", "--insecure")
        endpoint = tmp_path / "run" / "coordinator.json"
        eventually("it listens", endpoint.is_file, PATIENCE_S)
        address = json.loads(endpoint.read_text())["address"]
        devices = []
        for name, python in (("here", sys.executable), ("there", other)):
            words = ("join", address, "--name", name, "--data", f"{name}.jsonl", "--insecure", "--state", f"of-{name}")
            devices.append(stage.start(name, *words, program=PROGRAM, python=python))
        assert coordinator.ends(PATIENCE_S) == 0, coordinator.output() + devices[1].output()
        assert [device.ends(30) for device in devices] == [0, 0], devices[0].output() + devices[1].output()
        rounds = summary_of(tmp_path / "run")["rounds"]
        assert len(rounds) == 2
        for each in rounds:
            assert {row["device"]: row["status"] for row in each["results"]} == {
                "here": "accepted",
                "there": "accepted",
            }
        assert max(row["sparsity"] for row in rounds[-1]["results"]) > 0
    finally:
        stage.close()
