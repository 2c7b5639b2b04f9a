"""An adapter is measured on held-back rows of the app's data, with the app's scale; model and rows are read once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedcore.client.flower.measure as module
from fedcore.client.flower.measure import held_back
from fedcore.core.data.figures import Metrics
from fedcore.core.errors import DataError
from tests.client.conftest import WELCOME
from tests.client.device.test_arrival import HERE
from tests.client.flower.conftest import context_of

ADAPTER = {"head.bias": np.zeros(2, dtype=np.float32)}


class FakeModelEvaluator:
    """Keeps what it is made of and asked for."""

    calls: list[dict[str, Any]]

    def __init__(self, **made_of: Any) -> None:
        self.made_of = made_of

    def evaluate(self, adapter: Any, rows: int, scale: float, keep_set: Any = None) -> Metrics:
        self.calls.append({**self.made_of, "adapter": adapter, "rows": rows, "scale": scale})
        return Metrics(figures={"accuracy": 0.5, "auc": None, "macro_f1": 0.5, "loss": 1.0}, rows=rows)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    FakeModelEvaluator.calls = []
    monkeypatch.setattr(module, "ModelEvaluator", FakeModelEvaluator)
    monkeypatch.setattr(module, "model_folder", Path)
    return FakeModelEvaluator.calls


def csv(path: Path, rows: int) -> str:
    path.write_text("text,label\n" + "".join(f"text number {number},{'ab'[number % 2]}\n" for number in range(rows)))
    return str(path)


def measured(place: Path, **data: Any) -> Any:
    shared = {"model.path": "base", "data.train": csv(place / "train.csv", 40), "training.lora_scale": 3.0}
    return held_back(context_of(shared=shared | {f"data.{key}": value for key, value in data.items()}))


def test_no_number_means_all_rows_and_never_the_evaluators_own_zero(
    tmp_path: Path, calls: list[dict[str, Any]]
) -> None:
    """For zero rows it takes all cores of the machine, on which nodes may be simulated."""
    measure = measured(tmp_path, test=csv(tmp_path / "test.csv", 7))
    assert [measure(HERE, WELCOME, ADAPTER, count).rows for count in (0, 5)] == [7, 5]
    assert [(call["rows"], call["scale"], len(call["test"]), len(call["train"])) for call in calls] == [
        (7, 3.0, 7, 0),
        (5, 3.0, 7, 0),
    ]
    assert calls[0]["adapter"] is ADAPTER and calls[0]["test"] is calls[1]["test"]


def test_the_model_is_read_as_the_run_says(tmp_path: Path, calls: list[dict[str, Any]]) -> None:
    measured(tmp_path, test_fraction=0.5)(HERE, WELCOME, ADAPTER, 1)
    source = calls[0]["source"]
    assert (source.folder, source.labels, source.targets) == (Path("base"), WELCOME.labels, WELCOME.targets)
    assert (source.head, source.dtype, source.max_length) == (HERE.head, HERE.dtype, HERE.max_length)
    assert 0 < len(calls[0]["test"]) < 40


def test_without_a_row_held_back_there_is_nothing_to_measure_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row is held back"):
        measured(tmp_path, test_fraction=0.0)
