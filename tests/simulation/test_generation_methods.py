"""Every method trains a model that writes: it learns, all figures are finite, and the exports open and write."""

import math
from pathlib import Path

import pytest

from fedcore.strategies.table import STRATEGIES
from tests.simulation.test_generation_run import adapted, exported, run, written

COMPARED = ("fedspine", "fedavg-lora", "hetlora", "ffa-lora", "flora", "uniform", "random-arms")
OTHERS = sorted(set(STRATEGIES) - set(COMPARED))
PRUNING = {"fedspine", "uniform", "random-arms", "fedmp", "oracle"}
FIGURES = ("perplexity", "token_accuracy", "exact_match", "chrf", "rouge_l")
TARGETS = {"nx": 0.3, "phone": 0.5}
ONE_TARGET = {"uniform": 0.3}  # that of [strategy], for every class
PHONE = """
[[fleet.class]]
name = "phone"
slowdown = 4
target_sparsity = 0.5
"""
OVERRIDES = ("strategy.bandit=s-ucb", "strategy.ranks=[2, 4]", "task.generated_rows=2")


@pytest.mark.parametrize("strategy", [*COMPARED, *(pytest.param(name, marks=pytest.mark.long) for name in OTHERS)])
def test_a_model_that_writes_is_trained_by_every_method(tmp_path: Path, strategy: str) -> None:
    summary = run(written(tmp_path) + PHONE, tmp_path / "run", f"strategy.name={strategy}", *OVERRIDES)
    untrained, final = summary["global"]["untrained"], summary["global"]["final"]
    assert final["perplexity"] < 0.5 * untrained["perplexity"]
    assert all(row["status"] == "accepted" for told in summary["rounds"] for row in told["results"])
    for device_class, target in TARGETS.items():
        delivered = summary["classes"][device_class]
        expected = ONE_TARGET.get(strategy, target) if strategy in PRUNING else 0.0
        assert delivered["realised_sparsity"] == pytest.approx(expected, abs=0.07)
        assert delivered["test"]["perplexity"] < untrained["perplexity"] and len(delivered["test"]["samples"]) == 2
        assert all(math.isfinite(measured[name]) for measured in (final, delivered["test"]) for name in FIGURES)
        exported(tmp_path / "run" / "exports" / device_class)
    adapted(tmp_path / "run" / "global")
