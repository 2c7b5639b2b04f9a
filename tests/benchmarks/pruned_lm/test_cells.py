"""Cells of the benchmark of pruned language models."""

from pathlib import Path

import pytest

from benchmarks.pruned_lm import cells as module
from benchmarks.pruned_lm import general
from benchmarks.pruned_lm.cells import BUDGETS, RECOVERIES, Cell, cells
from benchmarks.pruned_lm.examination import AMOUNTS


@pytest.fixture(autouse=True)
def no_fetching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nouns", lambda: Path("/nouns.jsonl"))
    monkeypatch.setattr(general, "replayed", lambda: Path("/replayed.jsonl"))


def test_a_dense_model_is_tuned_once_and_measured_once_as_it_comes() -> None:
    made = list(cells([0.0, 0.5], ["taylor", "flap"], ["width", "both"], list(RECOVERIES), [0], steps=64))
    dense = [cell for cell in made if cell.sparsity == 0]
    assert sorted(cell.recovery for cell in dense) == ["lora", "none"]
    assert len(made) - len(dense) == 2 * 2 * len(RECOVERIES)
    assert len({cell.hash for cell in made}) == len(made)


def test_a_cell_is_a_configuration() -> None:
    cell = Cell(sparsity=0.2, way="both", recovery="lora+distill+replay", steps=600, seed=3)
    config = cell.config
    assert config.strategy.remove == ("heads", "channels", "layers") and config.strategy.target_sparsity == 0.2
    assert config.training.distill == 0.5 and config.data.replayed == 0.25 and config.data.replay == "/replayed.jsonl"
    assert Cell(sparsity=0.2).config.data.replayed == 0.0


@pytest.mark.parametrize("steps", BUDGETS)
def test_budgets_are_of_all_devices_together(steps: int) -> None:
    config = Cell(sparsity=0.5, steps=steps).config
    devices = sum(kind.count for kind in config.classes)
    assert config.training.local_steps is not None
    assert devices * config.run.rounds * config.training.local_steps == steps and steps in AMOUNTS
