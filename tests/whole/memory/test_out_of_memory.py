"""A device that runs out of memory: it stays in the run, and gets arms that it can train."""

import json
from pathlib import Path

import pytest

from tests.whole.memory.tight_device import LEAST
from tests.whole.stage import Stage, events, eventually, summary_of, texts

CONFIG = """
[run]
name = "tight"
rounds = 6
[model]
path = "{model}"
max_length = 16
[data]
labels = ["neg", "pos"]
[strategy]
name = "fedspine"
target_sparsity = 0.5
ranks = [2]
warmup_rounds = 1
recovery_rounds = 1
[training]
local_steps = 2
batch_size = 4
learning_rate = 1e-3
[coordinator]
listen = "localhost:0"
min_devices = 2
quorum = 0.5
"""
PROGRAM = (str(Path(__file__).with_name("tight_device.py")),)


@pytest.mark.parametrize("parent", [pytest.param("the coordinator", marks=pytest.mark.long), "an edge"])
def test_a_device_out_of_memory_goes_on_with_smaller_arms(parent: str, stage: Stage, bert: Path) -> None:
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    for part, name in enumerate(("roomy", "tight")):
        rows = "".join(f"{text},{label}\n" for text, label in texts(("neg", "pos"), 24, seed=part))
        (stage.root / f"{name}.csv").write_text("text,label\n" + rows)
    coordinator = stage.start("serve", "serve", "cfg.toml", "--run-dir", "run", "--insecure")
    endpoint = stage.root / "run" / "coordinator.json"
    eventually("it listens", endpoint.is_file)
    address = json.loads(endpoint.read_text())["address"]
    if parent == "an edge":
        words = ("edge", "--upstream", address, "--name", "near", "--insecure", "--listen", "localhost:0")
        stage.start("near", *words, "--state", "near")
        listening = stage.root / "near" / "edge.json"
        eventually("the edge listens", listening.is_file)
        address = json.loads(listening.read_text())["address"]
    common = ("join", address, "--insecure", "--class", "nx", "--model", bert)
    stage.start("roomy", *common, "--name", "roomy", "--data", "roomy.csv")
    tight = stage.start("tight", *common, "--name", "tight", "--data", "tight.csv", program=PROGRAM)
    assert coordinator.ends() == 0, coordinator.output()
    assert tight.ends() == 0, tight.output()

    run = stage.root / "run"
    failed = [event for event in events(run, "failed") if event["device"] == "tight"]
    assert failed and all(event["out_of_memory"] for event in failed)
    assert "ran out of memory on cpu" in failed[0]["message"] and "MiB are free" in failed[0]["message"]
    ceilings = [event["ceiling_mb"] for event in events(run, "memory_ceiling")]
    assert ceilings == sorted(ceilings, reverse=True) and len(set(ceilings)) == len(failed)
    accepted = [event["round"] for event in events(run, "accepted") if event["device"] == "tight"]
    arms = {event["round"]: event["realised"] for event in events(run, "choice") if event["device"] == "tight"}
    assert len(accepted) >= 2 and min(accepted) > max(event["round"] for event in failed)
    assert all(arms[number]["sparsity"] >= LEAST for number in accepted)
    assert summary_of(run)["classes"]["nx"]
