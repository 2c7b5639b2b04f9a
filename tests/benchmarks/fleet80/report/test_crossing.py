import pytest

from benchmarks.fleet80.report.crossing import WINDOW, crossing, smoothed
from tests.benchmarks.fleet80.known import rounds


def test_the_mean_of_three_rounds_decides() -> None:
    assert WINDOW == 3
    known = rounds([0.5, 0.9, 0.6, 0.7, 0.8, 0.9])
    assert [accuracy for _, accuracy in smoothed(known)] == pytest.approx([2.0 / 3, 2.2 / 3, 0.7, 0.8])
    found = crossing(known, 0.75)
    assert found is not None
    assert found.round == 6


def test_a_crossing_counts_everything_from_the_beginning_and_its_parts_make_its_time() -> None:
    found = crossing(rounds([0.5, 0.8, 0.8, 0.8, 0.8]), 0.8)
    assert found is not None
    assert (found.round, found.seconds) == (4, 40.0)
    assert found.megabytes == pytest.approx(4 * 3.0)
    assert sum(found.parts.values()) == pytest.approx(found.seconds)


def test_rounds_that_were_not_measured_take_time_and_give_no_accuracy() -> None:
    known = rounds([0.8, 0.8, 0.8, 0.8])
    known[1]["delivered"] = None
    found = crossing(known, 0.8)
    assert found is not None
    assert (found.round, found.seconds) == (4, 40.0)


def test_a_target_never_reached_is_none() -> None:
    assert crossing(rounds([0.7] * 5), 0.71) is None
    assert crossing(rounds([0.9, 0.9]), 0.5) is None
