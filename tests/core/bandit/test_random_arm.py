import numpy as np

from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace


def test_draws_uniformly_from_the_space():
    space, rng, bandit = (
        ArmSpace(sparsity_low=0.2, sparsity_high=0.6, ranks=(4, 8)),
        np.random.default_rng(0),
        RandomArm(),
    )
    arms = [bandit.select(bandit.start(), space, rng) for _ in range(400)]
    assert all(0.2 <= arm.sparsity <= 0.6 for arm in arms)
    assert abs(np.mean([arm.sparsity for arm in arms]) - 0.4) < 0.02
    assert abs(np.mean([arm.rank == 8 for arm in arms]) - 0.5) < 0.1


def test_steps_are_drawn_where_they_are_a_choice_and_change_nothing_else():
    plain = ArmSpace(sparsity_low=0.2, sparsity_high=0.6, ranks=(4, 8))
    wide = ArmSpace(sparsity_low=0.2, sparsity_high=0.6, ranks=(4, 8), steps=(5, 10, 20))
    drawn = [RandomArm().select({}, wide, np.random.default_rng(seed)) for seed in range(300)]
    assert [abs(np.mean([arm.steps == each for arm in drawn]) - 1 / 3) < 0.1 for each in wide.steps] == [True] * 3
    without = [RandomArm().select({}, plain, np.random.default_rng(seed)) for seed in range(300)]
    assert [(arm.sparsity, arm.rank) for arm in drawn] == [(arm.sparsity, arm.rank) for arm in without]
    assert {arm.steps for arm in without} == {0}


def test_a_point_is_returned_exactly():
    point = ArmSpace(sparsity_low=0.3, sparsity_high=0.3, ranks=(4,))
    assert RandomArm().select({}, point, np.random.default_rng(1)) == Arm(sparsity=0.3, rank=4)


def test_learns_nothing():
    assert RandomArm().observe({}, Arm(sparsity=0.3, rank=4), 1.0) == {}
