import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError
from fedcore.core.pruning.schedule import Schedule

SCHEDULES = st.builds(
    Schedule,
    target=st.floats(0, 0.99),
    warmup_rounds=st.integers(0, 8),
    recovery_rounds=st.integers(0, 8),
    rounds=st.integers(1, 20),
)


def test_ten_rounds_cut_in_six():
    schedule = Schedule(target=0.6, warmup_rounds=2, recovery_rounds=2, rounds=10)
    assert [schedule.floor(t) for t in range(1, 11)] == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6])
    assert schedule.cap(5) == pytest.approx(0.6 * (1 - 0.5**3))
    assert schedule.last_cut == 8
    assert [schedule.cap(t) for t in (1, 2, 8, 10)] == [0, 0, 0.6, 0.6]


@pytest.mark.parametrize("rounds", [1, 2])
def test_no_cut_where_warmup_takes_every_round(rounds):
    schedule = Schedule(target=0.5, warmup_rounds=2, recovery_rounds=2, rounds=rounds)
    assert [schedule.cap(t) for t in range(1, rounds + 1)] == [0.0] * rounds
    assert all(schedule.cuts_ahead(t) for t in range(1, rounds + 1))  # the export still cuts


def test_recovery_gives_way_before_the_cut():
    schedule = Schedule(target=0.5, warmup_rounds=2, recovery_rounds=2, rounds=3)
    assert (schedule.floor(2), schedule.cap(2), schedule.floor(3)) == (0.0, 0.0, 0.5)


@given(SCHEDULES, st.integers(1, 20))
def test_bounds_are_ordered_and_only_rise(schedule, t):
    assert 0.0 <= schedule.floor(t) <= schedule.cap(t) <= schedule.target
    assert schedule.floor(t) <= schedule.floor(t + 1)
    assert schedule.cap(t) <= schedule.cap(t + 1)


@given(SCHEDULES)
def test_warmup_never_cuts_and_last_cut_reaches_the_target(schedule):
    assert all(schedule.cap(t) == 0.0 for t in range(1, schedule.warmup_rounds + 1))
    assert schedule.floor(schedule.last_cut) == schedule.cap(schedule.last_cut) == schedule.target


@given(SCHEDULES)
def test_scores_matter_in_the_last_warmup_round(schedule):
    assert schedule.cuts_ahead(max(1, schedule.warmup_rounds)) == (
        schedule.target > 0 and max(1, schedule.warmup_rounds) < schedule.last_cut
    )
    assert not schedule.cuts_ahead(schedule.last_cut)


@pytest.mark.parametrize(
    "change", [{"target": 1.0}, {"target": -0.1}, {"rounds": 0}, {"warmup_rounds": -1}, {"recovery_rounds": -1}]
)
def test_refuses_impossible_schedules(change):
    with pytest.raises(ConfigError):
        Schedule(**({"target": 0.5, "warmup_rounds": 1, "recovery_rounds": 1, "rounds": 5} | change))
