import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.strategies.policy.round_budget import Timetable, best_budget, worth


def table(seconds, worths, weight=1.0):
    return Timetable(seconds=np.array(seconds, dtype=float), worths=np.array(worths, dtype=float), weight=weight)


def test_worth_is_the_formula():
    assert worth(16, 0.5, 0.25) == pytest.approx(4.0 * (1 - 0.25 * 0.25) * 0.25**0.125)
    assert worth(9, 0.0, 1.0) == 3.0


def test_best_within_is_the_worthiest_in_time_then_the_fastest():
    one = table([1, 2, 2, 5], [1, 3, 3, 9])
    assert one.best_within(4) == 1
    assert one.best_within(5) == 3
    assert one.best_within(0.5) == 0
    assert table([3, 2], [1, 1]).best_within(4) == 1


def test_a_slow_device_that_cannot_be_faster_sets_the_pace_and_the_others_fill_it():
    slow, fast = table([10], [1]), table([1, 5, 9, 20], [1, 2, 3, 4])
    assert best_budget([slow, fast]) == 10
    assert fast.best_within(10) == 2


def test_a_slow_device_is_not_waited_for_longer_than_it_is_worth():
    slow, fast = table([2, 40], [1, 4]), table([2, 3], [4, 9])
    assert best_budget([slow, fast]) == 3  # (1 + 9) / 3 a second, against (1 + 4) / 2 and (4 + 9) / 40


times = st.lists(st.floats(0.1, 100), min_size=1, max_size=6)


@st.composite
def tables(draw):
    made = []
    for _ in range(draw(st.integers(1, 5))):
        seconds = draw(times)
        made.append(table(seconds, [draw(st.floats(0.1, 10)) for _ in seconds], draw(st.floats(1, 20))))
    return made


def rate(made, budget):
    picks = [each.best_within(budget) for each in made]
    gained = sum(each.weight * each.worths[pick] for each, pick in zip(made, picks, strict=True))
    return gained / max(each.seconds[pick] for each, pick in zip(made, picks, strict=True))


@settings(max_examples=80, deadline=None)
@given(tables())
def test_everybody_has_an_arm_within_the_budget_and_it_beats_both_ends(made):
    budget = best_budget(made)
    assert all(each.seconds.min() <= budget for each in made)
    assert all(each.seconds[each.best_within(budget)] <= budget for each in made)
    shortest = max(each.seconds.min() for each in made)
    longest = max(each.seconds.max() for each in made)
    assert rate(made, budget) >= rate(made, shortest) * (1 - 1e-12)
    assert rate(made, budget) >= rate(made, longest) * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(tables(), st.floats(0.01, 100))
def test_the_unit_of_time_does_not_matter(made, unit):
    scaled = [table(each.seconds * unit, each.worths, each.weight) for each in made]
    assert rate(scaled, best_budget(scaled)) * unit == pytest.approx(rate(made, best_budget(made)), rel=1e-6)


def test_nobody_has_no_budget():
    with pytest.raises(ValueError, match="at least one device"):
        best_budget([])
