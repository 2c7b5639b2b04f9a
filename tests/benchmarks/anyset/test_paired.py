import math
from typing import Any

import pytest

from benchmarks.anyset.figure import draw
from benchmarks.anyset.paired import COMPARISONS, differences, interval, print_comparisons

UNIFORM = COMPARISONS[0]


def result(line: str, accuracy: float, *, seed: int = 0, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "set": "tweets",
        "skew": "iid",
        "line": line,
        "seed": seed,
        "overrides": list(overrides),
        "classes": {"middle": {"accuracy": accuracy}},
    }


def test_pairs_have_equal_seeds() -> None:
    stored = [result("fedspine", 0.9), result("fedspine", 0.8, seed=1), result("uniform", 0.85, seed=1)]
    assert differences(stored, UNIFORM) == {("tweets", "iid"): [pytest.approx(-5.0)]}


def test_a_dense_method_has_fewer_rounds_in_equal_time() -> None:
    stored = [result("fedspine", 0.9), result("fedit", 0.8), result("fedit", 0.7, overrides=("run.rounds=5",))]
    by_name = {comparison.name: differences(stored, comparison) for comparison in COMPARISONS}
    assert by_name["fedit, equal time"]["tweets", "iid"] == [pytest.approx(20.0)]
    assert by_name["fedit, equal steps"]["tweets", "iid"] == [pytest.approx(10.0)]


def test_figures_of_skewed_fleets_are_compared_there_alone() -> None:
    pair = [result("fedspine", 0.9), result("fedit", 0.8)]
    for stored in pair:
        stored["classes"]["middle"] |= {"macro_f1": stored["classes"]["middle"]["accuracy"], "auc": None}
    skewed = [stored | {"skew": "one-label"} for stored in pair]
    by_name = {comparison.name: differences([*pair, *skewed], comparison) for comparison in COMPARISONS}
    assert by_name["fedit, equal steps, macro_f1"] == {("tweets", "one-label"): [pytest.approx(10.0)]}
    assert by_name["fedit, equal steps, auc"] == {}


def test_the_limit_is_uniform_pruning_with_twice_the_rounds() -> None:
    stored = [result("uniform", 0.8), result("uniform", 0.81, overrides=("run.rounds=16",))]
    limit = next(comparison for comparison in COMPARISONS if comparison.name.startswith("uniform: "))
    assert differences(stored, limit) == {("tweets", "iid"): [pytest.approx(1.0)]}


def test_other_settings_of_fedspine_are_no_side() -> None:
    stored = [result("fedspine", 0.9, overrides=("training.learning_rate=1e-3",)), result("uniform", 0.8)]
    assert differences(stored, UNIFORM) == {}


def test_an_interval_is_students() -> None:
    assert interval([1.0]) == (1.0, math.inf)
    centre, half = interval([0.0, 1.0, 2.0])
    assert (centre, half) == (1.0, pytest.approx(4.302653 / math.sqrt(3), rel=1e-6))


def test_the_report_counts_goals_and_draws(tmp_path, capsys) -> None:
    stored = [result("fedspine", 0.9), result("uniform", 0.87), result("fedit", 0.89, overrides=("run.rounds=5",))]
    print_comparisons(stored)
    assert "1 of 1" in capsys.readouterr().out
    assert draw(stored, tmp_path / "a.png").stat().st_size > 1000
