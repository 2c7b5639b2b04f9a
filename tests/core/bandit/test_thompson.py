import numpy as np

from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.bandit.thompson import Thompson
from fedcore.core.contract.protocols import ArmSpace
from tests.core.bandit.test_s_ucb import RANKS, play

EVERYTHING_OF_4 = ArmSpace(sparsity_low=0.0, sparsity_high=0.9, ranks=(4,))


def test_a_leaf_is_played_as_often_as_its_beta_draw_is_the_largest():
    """Means of 3/4 and 1/4 over four pulls each: Beta(4, 2) against Beta(2, 4)."""
    state = {"leaves": [[0.0, 0.5, 0, 1, 4.0, 3.0], [0.5, 1.0, 0, 1, 4.0, 1.0]]}
    rng = np.random.default_rng(0)
    played = [Thompson(ranks=(4,)).select(state, EVERYTHING_OF_4, rng).sparsity < 0.5 for _ in range(3000)]
    draws = np.random.default_rng(1)
    expected = np.mean(draws.beta(4, 2, 100_000) > draws.beta(2, 4, 100_000))
    assert abs(np.mean(played) - expected) < 0.02


def test_beats_random_on_a_stationary_problem():
    bests = [(0.6, 8)] * 150
    learned = [play(Thompson(ranks=RANKS), seed, bests).mean() for seed in range(6)]
    drawn = [play(RandomArm(), seed, bests).mean() for seed in range(6)]
    assert np.mean(learned) > np.mean(drawn) + 0.05
