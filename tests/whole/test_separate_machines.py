"""serve and join as on machines of their own: certificates carried over by hand, the base model fetched, bad guests."""

import json
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.whole.stage import Stage, Started, events, eventually, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "far"
rounds = 1
[model]
path = "{model}"
max_length = 16
[data]
labels = ["neg", "pos"]
[strategy]
name = "fedavg-lora"
target_sparsity = 0.0
ranks = [2]
[training]
local_steps = 2
[coordinator]
listen = "localhost:0"
min_devices = 2
"""


def machine(stage: Stage, name: str, *carried: str) -> Path:
    """A folder as another machine has it: the authority's certificate and what was carried there."""
    folder = stage.root / name
    folder.mkdir()
    for file in ("ca.pem", *(f"{each}.{kind}" for each in carried for kind in ("pem", "key"))):
        shutil.copy(stage.root / "certs" / file, folder / file)
    return folder


def test_devices_join_with_what_was_carried_to_them(stage: Stage, bert: Path) -> None:
    made = stage.run("certs", "certs", "--host", "coord.example", "--device", "cam-1", "--class", "jetson")
    assert made.returncode == 0, made.stderr
    assert [line.split()[0] for line in made.stdout.splitlines()] == ["made", "issued", "issued", "issued"]
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    rows = list(texts(("neg", "pos"), 20))
    (stage.root / "one.jsonl").write_text(json.dumps({"sentence": rows[0][0], "mood": rows[0][1]}))
    only = [text for text, label in rows if label == "pos"]
    pyarrow.parquet.write_table(pyarrow.table({"text": only, "label": ["pos"] * len(only)}), stage.root / "pos.parquet")

    coordinator = stage.start("serve", "serve", "cfg.toml", "--run-dir", "run", "--certs", "certs")
    endpoint = stage.root / "run" / "coordinator.json"
    eventually("it listens", endpoint.is_file)
    address = json.loads(endpoint.read_text())["address"]
    assert address.startswith("localhost:")

    # Who comes with another authority's certificate, or none, gets no word in. (Before any device: they end the run.)
    foreign = stage.run("certs", "foreign", "--device", "cam-3")
    assert foreign.returncode == 0
    stranger = stage.run(
        *("join", address, "--name", "cam-3", "--data", "pos.parquet", "--certs", "foreign"),
        *("--state", "state-3", "--reconnect-s", "0.5"),
    )
    assert stranger.returncode == 1
    assert "certificate" in stranger.stderr and "Traceback" not in stranger.stderr
    naked = stage.run(
        *("join", address, "--name", "cam-3", "--data", "pos.parquet", "--insecure"),
        *("--state", "state-3", "--reconnect-s", "0.5"),
    )
    assert naked.returncode == 1 and "--certs" in naked.stderr
    taken = stage.run(
        "serve", "cfg.toml", "--run-dir", "run-2", "--certs", "certs", "--set", f"coordinator.listen={address}"
    )
    assert taken.returncode == 1
    assert f"cannot listen on {address}: Address already in use; choose another" in taken.stderr

    def join(name: str, folder: Path, *words: object) -> Started:
        return stage.start(name, "join", address, "--name", name, "--certs", folder, *words)

    # A device by its own name with one row; one by its class's certificate that has only ever seen one label.
    one = ("--data", "one.jsonl", "--text", "sentence", "--label", "mood", "--state", "state-1")
    first = join("cam-1", machine(stage, "m1", "cam-1"), *one)
    every = ("--class", "jetson", "--identity", "jetson", "--data", "pos.parquet", "--state", "state-2")
    second = join("cam-2", machine(stage, "m2", "jetson"), *every)

    assert coordinator.ends() == 0, coordinator.output()
    assert first.ends(20) == second.ends(20) == 0, first.output() + second.output()
    results = {row["device"]: row for row in summary_of(stage.root / "run")["rounds"][0]["results"]}
    assert {name: (row["status"], row["class"]) for name, row in results.items()} == {
        "cam-1": ("accepted", "default"),
        "cam-2": ("accepted", "jetson"),
    }
    told = {each["device"]: each["num_examples"] for each in events(stage.root / "run", "joined")}
    assert told == {"cam-1": 1, "cam-2": len(only)}
    for state in ("state-1", "state-2"):  # brought as blobs
        fetched = stage.root / state / "model" / "model.safetensors"
        assert fetched.read_bytes() == (bert / "model.safetensors").read_bytes()
