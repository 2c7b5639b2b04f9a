import numpy as np

from fedcore.core.bandit.lattice import best_of, grid, place
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace

RANKS, STEPS = (4, 8, 16), (5, 20)


def test_a_grid_has_the_corners_and_every_choice():
    arms = grid(ArmSpace(sparsity_low=0.1, sparsity_high=0.3, ranks=(4, 16), steps=STEPS))
    assert len(arms) == 5 * 2 * 2
    assert {arm.sparsity for arm in arms} >= {0.1, 0.3}
    assert {(arm.rank, arm.steps) for arm in arms} == {(4, 5), (4, 20), (16, 5), (16, 20)}
    point = ArmSpace(sparsity_low=0.3, sparsity_high=0.3, ranks=(8,))
    assert grid(point) == [Arm(sparsity=0.3, rank=8)]


def test_places_are_shares_of_log_axes():
    assert place(Arm(sparsity=0.3, rank=8, steps=20), RANKS, STEPS) == (0.3, 0.5, 1.0)
    assert place(Arm(sparsity=0.3, rank=8), (8,), (0,)) == (0.3, 0.0, 0.0)


def test_equals_are_drawn_among():
    arms = [Arm(sparsity=0.1 * index, rank=4) for index in range(3)]
    drawn = {best_of(arms, np.array([1.0, 0.0, 1.0]), np.random.default_rng(seed)).sparsity for seed in range(20)}
    assert drawn == {0.0, 0.2}
