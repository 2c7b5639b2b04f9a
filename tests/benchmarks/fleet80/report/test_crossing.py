import math

import pytest

from benchmarks.fleet80.cases.goals import Goal, accuracy
from benchmarks.fleet80.report.crossing import WINDOW, crossing, smoothed
from tests.benchmarks.fleet80.known import rounds

GOAL = accuracy(0.75)
PERPLEXITY = Goal(figure="perplexity", title="perplexity", targets=(20.0,), share=False, falls=True)


def test_the_mean_of_three_rounds_decides() -> None:
    assert WINDOW == 3
    known = rounds([0.5, 0.9, 0.6, 0.7, 0.8, 0.9])
    assert [accuracy for _, accuracy in smoothed(known, GOAL)] == pytest.approx([2.0 / 3, 2.2 / 3, 0.7, 0.8])
    found = crossing(known, GOAL, 0.75)
    assert found is not None
    assert found.round == 6


def test_a_crossing_counts_everything_from_the_beginning_and_its_parts_make_its_time() -> None:
    found = crossing(rounds([0.5, 0.8, 0.8, 0.8, 0.8]), GOAL, 0.8)
    assert found is not None
    assert (found.round, found.seconds) == (4, 40.0)
    assert found.megabytes == pytest.approx(4 * 3.0)
    assert sum(found.parts.values()) == pytest.approx(found.seconds)


def test_rounds_that_were_not_measured_take_time_and_give_no_accuracy() -> None:
    known = rounds([0.8, 0.8, 0.8, 0.8])
    known[1]["delivered"] = None
    found = crossing(known, GOAL, 0.8)
    assert found is not None
    assert (found.round, found.seconds) == (4, 40.0)


def test_a_target_never_reached_is_none() -> None:
    assert crossing(rounds([0.7] * 5), GOAL, 0.71) is None
    assert crossing(rounds([0.9, 0.9]), GOAL, 0.5) is None


def test_a_perplexity_falls_and_is_averaged_in_its_logarithm() -> None:
    known = rounds([0.5] * 4)
    for record, value in zip(known, (1000.0, 100.0, 10.0, 10.0), strict=True):
        record["delivered"]["perplexity"] = value
    assert [value for _, value in smoothed(known, PERPLEXITY)] == pytest.approx([100.0, 10.0 ** (4 / 3)])
    found = crossing(known, PERPLEXITY, 22.0)
    assert found is not None and found.round == 4
    assert crossing(known, PERPLEXITY, 21.0) is None
    assert PERPLEXITY.target_text(20.0) == "perplexity 20" and PERPLEXITY.text(math.pi) == "3.14"
    assert GOAL.target_text(0.75) == "75 %" and GOAL.text(0.5) == "50.00"
