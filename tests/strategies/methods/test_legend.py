"""LEGEND: the deepest part whose modelled time keeps to the mean of the cohort."""

from dataclasses import replace

import pytest

from fedcore.core.errors import JoinRefused
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.strategies.methods.legend import depths
from fedcore.strategies.policy.feasible import Memory
from fedcore.strategies.policy.part_choice import CohortCosts
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import HEAD


@pytest.fixture
def deep(config, geometry):
    """The strategy for a model of twelve layers."""
    changed = replace(config, strategy=replace(config.strategy, name="legend"))
    return make_strategy(changed, replace(geometry, layers=12), HEAD)


def planned(strategy, roster):
    return {each.device: each for each in strategy.plan(strategy.start(), roster, 1)[1].assignments}


def test_depths_follow_the_formula(deep, roster):
    speeds = dict(zip([each.name for each in roster], (1.0, 1.0, 2.0, 2.5, 4.0, 40.0), strict=True))
    fleet = [replace(each, slowdown=speeds[each.name]) for each in roster]
    plan = planned(deep, fleet)
    counts = deep.spec.geometry.dense

    def time(profile, depth):
        return deep.cost.seconds(profile, counts, 8, part=TrainedPart(first_layer=12 - depth))

    limit = sum(time(each, 12) for each in fleet) / len(fleet)
    for profile in fleet:
        expected = max([depth for depth in range(1, 13) if time(profile, depth) <= limit], default=1)
        assert plan[profile.name].training.trains.first_layer == 12 - expected, profile.name
    assert plan["a1"].training.trains is not None and plan["a1"].training.trains == EVERYTHING
    assert plan["t2"].training.trains == TrainedPart(first_layer=11)


def test_a_depth_by_hand(deep, roster):
    """Times 12 + d and 2 (12 + d): the mean at full depth is (24 + 48) / 2 = 36, and 2 (12 + 6) = 36."""

    class Timed(CohortCosts):
        def seconds(self, choice, trains):
            return (2 if choice == "slow" else 1) * (12 + 12 - trains.first_layer)

        def fits(self, choice, trains):
            return choice != "small" or trains.first_layer >= 9

    cohort = Timed(counted=0, choices=("fast", "slow"), cost=deep.cost, memory=Memory(cost=deep.cost))
    assert depths(cohort) == [EVERYTHING, TrainedPart(first_layer=6)]
    small = Timed(counted=0, choices=("fast", "small"), cost=deep.cost, memory=Memory(cost=deep.cost))
    assert depths(small) == [EVERYTHING, TrainedPart(first_layer=9)]
    assert depths(Timed(counted=0, choices=(), cost=deep.cost, memory=Memory(cost=deep.cost))) == []


@pytest.mark.parametrize("devices", [1, 6, 10, 30])
def test_equal_devices_train_everything_however_their_mean_is_rounded(deep, devices):
    class Timed(CohortCosts):
        def seconds(self, choice, trains):
            return 1.3 * (1 - trains.first_layer / 24)

        def fits(self, choice, trains):
            return True

    cohort = Timed(counted=0, choices=("alike",) * devices, cost=deep.cost, memory=Memory(cost=deep.cost))
    assert depths(cohort) == [EVERYTHING] * devices


def test_memory_bounds_depth_and_one_layer_is_enough_to_be_let_in(deep, roster):
    counts = deep.spec.geometry.dense
    four, one = (deep.cost.memory_mb(counts, 8, TrainedPart(first_layer=12 - depth)) for depth in (4, 1))
    limited = [replace(roster[0], memory_mb=four), replace(roster[4], slowdown=9.0)]
    assert planned(deep, limited)["a1"].training.trains == TrainedPart(first_layer=8)
    deep.admit(replace(roster[0], memory_mb=one))
    with pytest.raises(JoinRefused):
        deep.admit(replace(roster[0], memory_mb=one * 0.99))


def test_memory_is_learned_for_the_part_that_was_trained(deep, roster, fleet):
    slow = [replace(roster[0], slowdown=1.0), replace(roster[4], slowdown=9.0)]
    state, plan = deep.plan(deep.start(), slow, 1)
    part = plan.assignments[1].training.trains
    assert part.first_layer > 0
    estimate = deep.cost.memory_mb(plan.assignments[1].keep_set.counts, 8, part)
    outcomes = [
        replace(each, report=replace(each.report, metrics=replace(each.report.metrics, peak_memory_mb=1.25 * estimate)))
        for each in fleet(failures=False).outcomes(deep, plan, slow)
    ]
    state, _ = deep.close(state, outcomes, 1)
    assert state["memory_scale"]["tx2"] == pytest.approx(1.25)
