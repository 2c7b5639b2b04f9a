"""Runs to examine: a tiny model and rows, and a model that is never loaded."""

from pathlib import Path

import pytest

import fedcore.checkup.run_facts as run_facts
from fedcore.checkup.run_facts import RunFacts, examine_run
from fedcore.core.config.toml import parse_config
from tests.tiny_run import WIDE, write_model

CONFIG = """
[run]
name = "tiny"
rounds = 4
[model]
path = "{folder}/model"
max_length = 8
[data]
train = "{folder}/rows.csv"
partition = "iid"
[strategy]
ranks = [2, 4]
warmup_rounds = 1
[coordinator]
min_devices = 1
[[fleet.class]]
name = "agx"
count = 2
[[fleet.class]]
name = "tx2"
memory_mb = 256
"""


def facts_of(folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str, rows: str = "") -> RunFacts:
    """Examine the run of CONFIG over `rows`, or over 40 good ones."""
    monkeypatch.setattr(run_facts, "try_model", lambda config: None)  # the tiny model has no tokenizer
    if not (folder / "model").exists():
        write_model(folder / "model", WIDE)
    good = "".join(f"text number {number},{('neg', 'pos')[number % 2]}\n" for number in range(40))
    (folder / "rows.csv").write_text("text,label\n" + (rows or good))
    return examine_run(parse_config(CONFIG.format(folder=folder), overrides))
