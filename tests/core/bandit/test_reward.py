import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.bandit.reward import reward_parts, rewards_of
from fedcore.core.contract.outcome import Status
from fedcore.core.errors import ConfigError


def cohort_rewards(outcomes, targets, weights=(0.5, 0.2, 0.1, 0.2)):
    return rewards_of(outcomes, reward_parts(outcomes, targets), weights)


def test_the_formula(outcome):
    cohort = [
        outcome("a", drop=0.3, importance=1.0, time_s=1.0, sparsity=0.25),
        outcome("b", drop=0.1, importance=3.0, time_s=3.0, sparsity=0.5),
        outcome("c", drop=0.2, importance=2.0, time_s=2.0, sparsity=0.0),
    ]
    rewards = cohort_rewards(cohort, {"a": 0.5, "b": 0.5, "c": 0.5}, (0.5, 0.2, 0.1, 0.2))
    assert rewards == pytest.approx(
        {
            "a": 0.5 * 1 + 0.2 * 0.5 + 0.1 * 0,  # faster than the median: nothing taken off
            "b": 0.5 * 0 + 0.2 * 1 + 0.1 * 1 - 0.2 * 0.5,
            "c": 0.5 * 0.5 + 0.2 * 0 + 0.1 * 0.5,
        }
    )


def test_ties_share_their_rank_and_one_device_is_in_the_middle(outcome):
    targets = dict.fromkeys("abc", 0.5)
    parts = reward_parts([outcome("a", drop=0.2), outcome("b", drop=0.2), outcome("c", drop=0.1)], targets)
    assert [parts[device].loss_rank for device in "abc"] == [0.75, 0.75, 0.0]
    assert [parts[device].importance_rank for device in "abc"] == [0.5] * 3
    assert reward_parts([outcome("a")], targets)["a"].loss_rank == 0.5


def test_failures_earn_nothing_and_lost_devices_are_not_observed(outcome):
    cohort = [
        outcome("a"),
        outcome("b", status=Status.MISSED_DEADLINE, report=False, time_s=100.0),
        outcome("c", status=Status.REJECTED),
        outcome("d", status=Status.LOST, report=False),
    ]
    rewards = cohort_rewards(cohort, dict.fromkeys("abcd", 0.5))
    assert rewards["b"] == rewards["c"] == 0.0
    assert "d" not in rewards
    assert reward_parts(cohort, dict.fromkeys("abcd", 0.5))["a"].lateness == 0.0  # the median is of accepted ones


def test_modelled_times_replace_measured_ones(outcome):
    cohort = [outcome("a", time_s=9.0), outcome("b", time_s=1.0)]
    parts = reward_parts(cohort, {"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 3.0})
    assert (parts["a"].lateness, parts["b"].lateness) == (0.0, 0.5)


def test_reports_that_are_missing_or_not_finite_rank_last(outcome):
    broken = outcome("c", importance=math.inf)
    broken = replace(broken, report=replace(broken.report, metrics=replace(broken.report.metrics, loss_after=math.nan)))
    cohort = [outcome("a", drop=-5.0), outcome("b", report=False), broken]
    parts = reward_parts(cohort, dict.fromkeys("abc", 0.5))
    assert parts["a"].loss_rank == parts["a"].importance_rank == 1.0
    assert parts["b"].loss_rank == parts["c"].loss_rank == 0.25


def test_without_a_target_progress_is_complete(outcome):
    assert reward_parts([outcome("a", sparsity=0.0)], {"a": 0.0})["a"].progress == 1.0


def test_an_empty_cohort_has_no_rewards():
    assert cohort_rewards([], {}) == {}


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0, 5), st.floats(0, 100), st.floats(0, 0.99)), max_size=6),
    st.lists(st.floats(0, 3), min_size=4, max_size=4),
)
def test_rewards_stay_in_the_unit_interval(outcome, rows, weights):
    cohort = [
        outcome(str(i), drop=drop, importance=importance, time_s=time_s, sparsity=sparsity)
        for i, (drop, importance, time_s, sparsity) in enumerate(rows)
    ]
    rewards = cohort_rewards(cohort, {each.device: 0.5 for each in cohort}, weights)
    assert all(0.0 <= reward <= 1.0 for reward in rewards.values())


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.5, 0.2, 0.1, -0.2)])
def test_refuses_other_weights(weights, outcome):
    with pytest.raises(ConfigError, match="reward weights"):
        cohort_rewards([outcome()], {"a": 0.5}, weights)


@given(drops=st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 3.0]), min_size=2, max_size=12))
def test_a_rank_counts_the_smaller_and_half_of_the_equal(outcome, drops):
    cohort = [outcome(f"d{index:02}", drop=drop) for index, drop in enumerate(drops)]
    parts = reward_parts(cohort, dict.fromkeys((each.device for each in cohort), 0.5))
    others = len(drops) - 1
    expected = [(sum(v < x for v in drops) + (sum(v == x for v in drops) - 1) / 2) / others for x in drops]
    assert [parts[each.device].loss_rank for each in cohort] == expected


def test_late_is_who_exceeds_the_budget_where_there_is_one(outcome):
    cohort = [outcome("a", time_s=8.0), outcome("b", time_s=10.0), outcome("c", time_s=15.0)]
    targets = dict.fromkeys("abc", 0.5)
    assert [each.lateness for each in reward_parts(cohort, targets).values()] == [0.0, 0.0, 0.5]
    assert [each.lateness for each in reward_parts(cohort, targets, budget_s=12.0).values()] == [0.0, 0.0, 0.25]
    assert [each.lateness for each in reward_parts(cohort, targets, budget_s=4.0).values()] == [1.0, 1.0, 1.0]


def test_a_drop_per_second_counts_seconds_beyond_the_budget_alone(outcome):
    targets = dict.fromkeys("abc", 0.5)

    def ranks(*cohort):
        return [each.loss_rank for each in reward_parts(cohort, targets, budget_s=10.0, per_second=True).values()]

    slow = outcome("c", drop=0.3, time_s=20.0)  # 0.15 per budget
    assert ranks(outcome("a", drop=0.2, time_s=1.0), outcome("b", drop=0.1, time_s=10.0), slow) == [1.0, 0.0, 0.5]
    assert ranks(outcome("a", drop=0.2, time_s=10.0), outcome("b", drop=0.1, time_s=1.0), slow) == [1.0, 0.0, 0.5]
    worse, late = outcome("a", drop=-0.1, time_s=10.0), outcome("b", drop=-0.2, time_s=40.0)
    assert ranks(worse, late, slow) == [0.5, 0.0, 1.0]  # a rise is not excused by taking long
