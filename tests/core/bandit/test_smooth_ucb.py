import math

import numpy as np
import pytest

from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.bandit.smooth_ucb import BANDWIDTH, SmoothUcb
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError
from tests.core.bandit.test_s_ucb import RANKS, play

POINTS = ArmSpace(sparsity_low=0.2, sparsity_high=0.2, ranks=(4, 16))


def test_the_bound_is_the_formula():
    """Two ranks at the ends of their axis, so the kernel between them is exp(-1 / (2 h^2))."""
    state = {"cells": [[0.2, 4, 0, 8.0, 4.0], [0.2, 16, 0, 2.0, 0.7]]}
    near, spread = math.exp(-1 / (2 * BANDWIDTH**2)), 2 * math.log(11.0)
    known = {4: 8 + near * 2, 16: 2 + near * 8}
    means = {4: (4 + near * 0.7) / known[4], 16: (0.7 + near * 4) / known[16]}
    for exploration in (0.0, 0.05, 0.1, 0.2, 0.5):
        bounds = {rank: means[rank] + exploration * math.sqrt(spread / known[rank]) for rank in (4, 16)}
        bandit = SmoothUcb(ranks=(4, 16), exploration=exploration)
        assert bandit.select(state, POINTS, np.random.default_rng(0)).rank == max(bounds, key=bounds.get)


def test_arms_that_nothing_speaks_for_come_first():
    far = ArmSpace(sparsity_low=0.0, sparsity_high=0.0, ranks=(4, 16))
    state = {"cells": [[0.98, 4, 0, 9.0, 9.0]]}  # more than three bandwidths from rank 4, and further from rank 16
    bandit = SmoothUcb(ranks=(4, 16), exploration=0.0)
    assert bandit.select(state, far, np.random.default_rng(0)).rank == 16


def test_counts_and_sums_fade_and_cells_are_forgotten():
    bandit = SmoothUcb(ranks=(4, 16), discount=0.5)
    state = bandit.observe(bandit.start(), Arm(sparsity=0.201, rank=4), 1.0)
    state = bandit.observe(state, Arm(sparsity=0.199, rank=4), 0.5)
    assert state == {"cells": [[0.2, 4, 0, 1.5, 1.0]]}
    for _ in range(12):
        state = bandit.observe(state, Arm(sparsity=0.6, rank=16), 0.0)
    assert [cell[:3] for cell in state["cells"]] == [[0.6, 16, 0]]


def test_beats_random_on_a_stationary_problem_and_after_it_moved():
    bests = [(0.6, 8)] * 120 + [(0.2, 32)] * 120
    learned = [play(SmoothUcb(ranks=RANKS, discount=0.95), seed, bests) for seed in range(4)]
    drawn = [play(RandomArm(), seed, bests) for seed in range(4)]
    for part in (slice(0, 120), slice(180, 240)):
        assert np.mean([each[part] for each in learned]) > np.mean([each[part] for each in drawn]) + 0.15


@pytest.mark.parametrize("wrong", [{"ranks": ()}, {"steps": ()}, {"discount": 0.0}, {"exploration": -1.0}])
def test_refuses_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="smooth-ucb"):
        SmoothUcb(**({"ranks": RANKS} | wrong))
