import json

import numpy as np
import pytest

from benchmarks import recording
from benchmarks.recording import recorded
from benchmarks.rehearsal import rehearse
from fedcore.core.config.toml import parse_config
from fedcore.strategies.table import resolve_settings
from tests.tiny_models import tiny_model

ROWS = [("good film" if i % 2 else "bad film", str(i % 2)) for i in range(40)]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("rehearsal")
    model = tiny_model(root / "model", "bert")
    rows = root / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": f"{text} {i}", "label": label}) + "\n" for i, (text, label) in enumerate(ROWS))
    )
    text = f"""
[run]
name = "tiny"
rounds = 3
[model]
path = "{model}"
max_length = 8
[data]
train = "{rows}"
[strategy]
ranks = [1, 2]
bandit = "random"
reward_times = "model"
warmup_rounds = 1
recovery_rounds = 1
[training]
local_steps = 2
batch_size = 4
[[fleet.class]]
name = "small"
count = 2
"""
    return resolve_settings(parse_config(text))


def test_a_rehearsal_trains_prunes_and_repeats(config):
    seen = []

    def carry(assignment, increment):
        seen.append((assignment.round, assignment.device, assignment.arm.sparsity, increment))
        return increment

    run = rehearse(config)
    before = {name: value.copy() for name, value in run.tensors.items()}
    assert list(run.rounds(carry)) == [1, 2, 3]
    assert [update[:2] for update in seen] == [(n, f"small-{i}") for n in (1, 2, 3) for i in (1, 2)]
    assert seen[0][2] == 0 and seen[-1][2] > 0.3
    assert any(not np.array_equal(before[name], value) for name, value in run.tensors.items())
    again = rehearse(config)
    for _ in again.rounds():
        pass
    assert all(np.array_equal(again.tensors[name], value) for name, value in run.tensors.items())
    assert 0 <= (run.metrics().figures["accuracy"] or 0.0) <= 1


def test_a_recording_is_made_once(config, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path))
    said = []
    first = recorded(config, said.append)
    assert len(said) == 3 and [update.round for update in first] == [1, 1, 2, 2, 3, 3]
    assert {update.rank for update in first} <= {1, 2} and all(update.values > 0 for update in first)
    monkeypatch.setattr(recording, "rehearse", None)
    second = recorded(config, said.append)
    assert len(said) == 3
    assert all(
        np.array_equal(a.tensors[name], b.tensors[name])
        for a, b in zip(first, second, strict=True)
        for name in a.tensors
    )
