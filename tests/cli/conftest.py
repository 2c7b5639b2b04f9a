"""The command line in this process: what it prints and its exit code; and a folder with materials to be wrong about."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from fedcore.cli.main import run
from fedcore.local_fleet.processes import Processes
from tests.tiny_run import write_model

ROWS = [(f"text number {number}", ("neg", "pos")[number % 2]) for number in range(40)]
CONFIG = """
[run]
name = "tiny"
rounds = 3
[model]
path = "model"
max_length = 8
[data]
train = "rows.csv"
[strategy]
ranks = [2, 4]
warmup_rounds = 1
[coordinator]
min_devices = 3
[[fleet.class]]
name = "agx"
count = 2
[[fleet.class]]
name = "tx2"
memory_mb = 256
"""


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Fedcore = Callable[..., Said]


@pytest.fixture
def fedcore(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fedcore:
    """Run the command line as the shell does."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words: object) -> Said:
        monkeypatch.setattr("sys.argv", ["fedcore", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            run()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture(scope="session")
def materials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, one of a family that cannot be pruned, a configuration, and the same rows in every format."""
    root = tmp_path_factory.mktemp("materials")
    write_model(root / "model")
    (root / "t5").mkdir()
    (root / "t5" / "config.json").write_text(json.dumps({"model_type": "t5", "n_layer": 2}))
    (root / "cfg.toml").write_text(CONFIG)
    with (root / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *ROWS])
    (root / "rows.tsv").write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in ROWS))
    (root / "rows.jsonl").write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS))
    table = pyarrow.table({"text": [text for text, _ in ROWS], "label": [label for _, label in ROWS]})
    pyarrow.parquet.write_table(table, root / "rows.parquet")
    return root


@pytest.fixture
def place(materials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working folder that sees the materials, where no process may be started."""
    for each in materials.iterdir():
        (tmp_path / each.name).symlink_to(each)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*_: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(Processes, "start", refuse)
    return tmp_path
