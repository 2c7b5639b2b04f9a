"""What stored results are compared with."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.pruned_lm.figure import draw
from benchmarks.pruned_lm.table import by_cell, print_table, ratios


def result(sparsity: float, recovery: str, exact: float, english: float, **other: Any) -> dict[str, Any]:
    return {
        "sparsity": sparsity,
        "criterion": "taylor",
        "way": "width",
        "recovery": recovery,
        "budget": 600,
        "overrides": [],
        "exact_match": exact,
        "perplexity": 5.0,
        "general_perplexity": english,
        "tokens_per_s": 12.0,
        "speedup": 1.2,
        "seconds": 900.0,
        **other,
    }


RESULTS = [
    result(0.0, "none", 0.0, 15.0),
    result(0.0, "lora", 0.30, 16.0),
    result(0.0, "lora", 0.50, 18.0),
    result(0.2, "lora", 0.40, 18.0),
    result(0.5, "lora", 0.20, 60.0),
]


def test_scores_are_shares_of_dense_tuning_and_english_of_the_base() -> None:
    cells = by_cell(RESULTS)
    score, english = ratios(cells, (0.2, "taylor", "width", "lora", 600, ()))
    assert score == pytest.approx(0.40 / 0.40) and english == pytest.approx(18 / 15)
    assert ratios(by_cell(RESULTS[3:]), (0.2, "taylor", "width", "lora", 600, ())) == (None, None)


def test_goals_that_are_missed_have_a_minus() -> None:
    shown = io.StringIO()
    print_table(RESULTS, Console(file=shown, width=200))
    lines = shown.getvalue().splitlines()
    assert any("20%" in line and "score english speed" in line for line in lines)
    assert any("50%" in line and "-score -english -speed" in line for line in lines)


def test_a_figure_is_drawn(tmp_path: Path) -> None:
    assert draw(RESULTS, tmp_path / "pruned_lm.png").stat().st_size > 1000
