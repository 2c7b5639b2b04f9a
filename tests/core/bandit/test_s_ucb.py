import hashlib
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError

RANKS = (2, 4, 8, 16, 32)
EVERYTHING = ArmSpace(sparsity_low=0.0, sparsity_high=0.9, ranks=RANKS)


@st.composite
def spaces(draw):
    low, high = sorted((draw(st.floats(0, 0.999)), draw(st.floats(0, 0.999))))
    ranks = draw(st.lists(st.sampled_from((1, 3, *RANKS, 64)), min_size=1, unique=True))
    point = draw(st.booleans())
    return ArmSpace(sparsity_low=low, sparsity_high=low if point else high, ranks=tuple(sorted(ranks)))


def leaf_of(bandit, state, arm):
    rank_bin = max(i for i, rank in enumerate(bandit.ranks) if rank <= max(arm.rank, bandit.ranks[0]))
    return [leaf for leaf in state["leaves"] if leaf[0] <= arm.sparsity < leaf[1] and leaf[2] <= rank_bin < leaf[3]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(spaces(), st.floats(0, 1)), min_size=1, max_size=25), st.integers(0, 9))
def test_arms_are_always_in_the_space_and_in_exactly_one_leaf(steps, seed):
    bandit, rng = SUcb(ranks=RANKS), np.random.default_rng(seed)
    state = bandit.start()
    for space, reward in steps:
        before = json.dumps(state)
        arm = bandit.select(state, space, rng)
        assert json.dumps(state) == before
        assert space.sparsity_low <= arm.sparsity <= space.sparsity_high
        assert arm.rank in space.ranks
        for rank in (1, 3, *RANKS, 64):
            assert len(leaf_of(bandit, state, Arm(sparsity=arm.sparsity, rank=rank))) == 1
        state = bandit.observe(state, arm, reward)
        assert json.loads(json.dumps(state)) == state


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.999), st.sampled_from(RANKS), st.floats(0, 1)), min_size=1, max_size=40))
def test_leaves_tile_the_space_and_counts_are_discounted_totals(observations):
    bandit = SUcb(ranks=RANKS, discount=0.9)
    state = bandit.start()
    for sparsity, rank, reward in observations:
        state = bandit.observe(state, Arm(sparsity=sparsity, rank=rank), reward)
    area = sum((high - low) * (last - first) for low, high, first, last, _, _ in state["leaves"])
    assert area == pytest.approx(len(RANKS))
    assert all(high > low and last > first for low, high, first, last, _, _ in state["leaves"])
    weights = [0.9 ** (len(observations) - 1 - i) for i in range(len(observations))]
    assert sum(leaf[4] for leaf in state["leaves"]) == pytest.approx(sum(weights))
    rewards = sum(w * each[2] for w, each in zip(weights, observations, strict=True))
    assert sum(leaf[5] for leaf in state["leaves"]) == pytest.approx(rewards)


def test_splits_at_the_arm_once_it_has_seen_enough():
    bandit = SUcb(ranks=(4, 16), discount=1.0)
    state = bandit.start()
    for _ in range(2):
        state = bandit.observe(state, Arm(sparsity=0.3, rank=4), 0.5)
    assert state == {"leaves": [[0.0, 1.0, 0, 2, 2.0, 1.0]]}
    state = bandit.observe(state, Arm(sparsity=0.4, rank=4), 0.8)
    assert state["leaves"] == [[0.0, 0.4, 0, 2, 1.5, 0.9], [0.4, 1.0, 0, 2, 1.5, 0.9]]


def test_splits_ranks_where_that_side_is_wider_or_the_arm_lies_on_an_edge():
    bandit = SUcb(ranks=(4, 8, 16), discount=1.0)
    state = {"leaves": [[0.0, 1.0, 0, 3, 4.0, 2.0]]}
    edge = bandit.observe(state, Arm(sparsity=0.0, rank=8), 0.5)["leaves"]
    assert [leaf[:4] for leaf in edge] == [[0.0, 1.0, 0, 1], [0.0, 1.0, 1, 3]]
    state = {"leaves": [[0.0, 0.5, 0, 3, 4.0, 2.0], [0.5, 1.0, 0, 3, 4.0, 2.0]]}
    wider = bandit.observe(state, Arm(sparsity=0.2, rank=4), 0.5)["leaves"]
    assert [leaf[:4] for leaf in wider] == [[0.0, 0.5, 0, 1], [0.0, 0.5, 1, 3], [0.5, 1.0, 0, 3]]


def test_leaves_narrower_than_min_width_stay_whole():
    bandit = SUcb(ranks=(4,), min_width=0.25)
    state = {"leaves": [[0.0, 0.25, 0, 1, 9.0, 4.0], [0.25, 1.0, 0, 1, 9.0, 4.0]]}
    assert len(bandit.observe(state, Arm(sparsity=0.1, rank=4), 0.5)["leaves"]) == 2
    assert len(bandit.observe(state, Arm(sparsity=0.6, rank=4), 0.5)["leaves"]) == 3


def test_upper_bound_is_the_formula_and_picks_the_leaf():
    bandit = SUcb(ranks=(4,), exploration=0.2)
    leaves = [[0.0, 0.5, 0, 1, 8.0, 4.0], [0.5, 1.0, 0, 1, 2.0, 0.7]]
    spread = math.sqrt(2 * math.log(10.0))
    known, curious = 0.5 + 0.2 * spread / math.sqrt(8), 0.35 + 0.2 * spread / math.sqrt(2)
    assert curious > known
    rng = np.random.default_rng(0)
    assert bandit.select({"leaves": leaves}, EVERYTHING_OF_4, rng).sparsity >= 0.5
    assert SUcb(ranks=(4,), exploration=0.0).select({"leaves": leaves}, EVERYTHING_OF_4, rng).sparsity < 0.5


EVERYTHING_OF_4 = ArmSpace(sparsity_low=0.0, sparsity_high=0.9, ranks=(4,))


def test_unseen_leaves_come_first():
    state = {"leaves": [[0.0, 0.5, 0, 1, 8.0, 8.0], [0.5, 1.0, 0, 1, 0.0, 0.0]]}
    rng = np.random.default_rng(0)
    assert all(SUcb(ranks=(4,)).select(state, EVERYTHING_OF_4, rng).sparsity >= 0.5 for _ in range(20))


def mean_reward(arm, best):
    return max(0.0, 1 - 1.6 * abs(arm.sparsity - best[0]) - 0.2 * abs(math.log2(arm.rank / best[1])))


def play(bandit, seed, bests):
    """Mean true reward of each pull; the best arm is the one in `bests` at that pull."""
    rng, state, gained = np.random.default_rng(seed), bandit.start(), []
    for best in bests:
        arm = bandit.select(state, EVERYTHING, rng)
        gained.append(mean_reward(arm, best))
        noisy = float(np.clip(gained[-1] + 0.1 * rng.standard_normal(), 0, 1))
        state = bandit.observe(state, arm, noisy)
    return np.array(gained)


def test_beats_random_on_a_stationary_problem():
    bests = [(0.6, 8)] * 150
    learned = [play(SUcb(ranks=RANKS), seed, bests).mean() for seed in range(8)]
    drawn = [play(RandomArm(), seed, bests).mean() for seed in range(8)]
    assert np.mean(learned) > np.mean(drawn) + 0.15
    assert min(learned) > np.mean(drawn)


def test_adapts_after_the_best_arm_moved():
    bests = [(0.6, 8)] * 150 + [(0.2, 32)] * 150
    learned = [play(SUcb(ranks=RANKS), seed, bests)[-75:].mean() for seed in range(6)]
    drawn = [play(RandomArm(), seed, bests)[-75:].mean() for seed in range(6)]
    assert np.mean(learned) > np.mean(drawn) + 0.15


def test_decisions_without_steps_are_those_of_the_first_version():
    """Arms and leaves of 300 pulls, as the tree of two axes gave them: logs of earlier runs replay."""
    rng, bandit, told = np.random.default_rng(5), SUcb(ranks=(2, 4, 8, 16)), []
    state = bandit.start()
    for pull in range(300):
        low = 0.3 * rng.random()
        high = low + 0.4 * rng.random() * (pull % 7 > 0)
        space = ArmSpace(sparsity_low=low, sparsity_high=high, ranks=bandit.ranks if pull % 3 else (4,))
        arm = bandit.select(state, space, rng)
        state = bandit.observe(state, arm, float(rng.random()))
        told.append((arm.sparsity, arm.rank))
    digest = hashlib.sha256(json.dumps([told, state]).encode()).hexdigest()
    assert digest == "fc19be3749731e655735ca97f07fe68102f0392b8f037c9c091edd84c13dfe2c"


@pytest.mark.parametrize(
    "wrong",
    [{"ranks": ()}, {"ranks": (8, 4)}, {"ranks": (0, 4)}, {"discount": 0.0}, {"exploration": -1.0}, {"min_width": 0.0}],
)
def test_refuses_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match=r"bandit|s-ucb"):
        SUcb(**({"ranks": RANKS} | wrong))


@pytest.mark.parametrize("reward", [-0.1, 1.1, math.nan])
def test_refuses_rewards_out_of_range(reward):
    bandit = SUcb(ranks=RANKS)
    with pytest.raises(ConfigError, match="reward"):
        bandit.observe(bandit.start(), Arm(sparsity=0.1, rank=4), reward)
