"""Which part of the adapter devices train, and what the rules may ask of a cohort."""

from dataclasses import replace

import pytest

from fedcore.core.config.tables import TrainingConfig
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.feasible import Memory
from fedcore.strategies.policy.part_choice import ALTERNATING, PARTS, CohortCosts, partly_new, same
from fedcore.strategies.policy.state import PolicyState

HEAVY = {"agx": 2.0}


@pytest.fixture
def cohort(build, roster):
    """Return make(rounds that counted, memory limit of every device) -> the costs of a cohort of three."""
    strategy = build()

    def make(counted=0, memory_mb=0.0):
        chooser = strategy.chooser(PolicyState(orders={}), 1)
        members = [
            CohortMember(profile=replace(each, memory_mb=memory_mb), weight=1, score=False) for each in roster[:3]
        ]
        choices = [chooser.choose(chooser.offer(member)) for member in members]
        return CohortCosts(
            counted=counted, choices=choices, cost=strategy.cost, memory=Memory(cost=strategy.cost, scales=HEAVY)
        )

    return make


def test_every_device_gets_the_same_part(cohort):
    part = TrainedPart(first_layer=1)
    assert same(part).choose(cohort()) == [part] * 3
    assert PARTS["both"].choose(cohort()) == [EVERYTHING] * 3
    assert PARTS["b"].least == TrainedPart(factors=Factors.B)


def test_factors_take_turns_by_rounds_that_counted_and_b_is_first(cohort):
    turns = [ALTERNATING.choose(cohort(counted))[0].factors for counted in range(4)]
    assert turns == [Factors.B, Factors.A, Factors.B, Factors.A]
    assert ALTERNATING.least.factors is Factors.A, "whose gradient needs more memory"


def test_a_part_fits_by_the_estimate_times_what_the_class_has_measured(cohort):
    part = TrainedPart(factors=Factors.B)
    unlimited = cohort()
    needed = unlimited.cost.memory_mb(Counts(8, 64), unlimited.choices[0].arm.rank, part)
    assert all(unlimited.fits(choice, part) for choice in unlimited.choices)
    for share, expected in ((0.99, [False, False, False]), (1.5, [False, False, True]), (2.0, [True, True, True])):
        limited = cohort(memory_mb=needed * share)
        choices = [replace(choice, arm=unlimited.choices[0].arm, counts=Counts(8, 64)) for choice in limited.choices]
        assert [limited.fits(choice, part) for choice in choices] == expected, share


def test_a_round_takes_what_the_cost_model_says(cohort):
    costs, part = cohort(), TrainedPart(first_layer=1)
    choice = costs.choices[2]
    expected = costs.cost.seconds(choice.profile, choice.counts, choice.arm.rank, choice.arm.steps, part=part)
    assert costs.seconds(choice, part) == expected < costs.seconds(choice, EVERYTHING)


def test_a_part_that_stays_comes_down_as_a_difference_unless_asked_otherwise(config):
    assert partly_new(replace(config, training=TrainingConfig(downlink="full"))) == "delta"
    assert partly_new(replace(config, training=TrainingConfig(downlink="bf16"))) == "bf16"
