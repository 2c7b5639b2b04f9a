import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.bandit.tree import Box, Partition
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError

RANKS, STEPS = (2, 4, 8, 16), (5, 10, 20, 40)


def tree(**changes):
    return Partition(**{"ranks": RANKS, "steps": STEPS, "discount": 0.95, "min_width": 0.1} | changes)


def holding(leaves, arm):
    at = [sum(each <= value for each in axis[1:]) for axis, value in ((RANKS, arm.rank), (STEPS, arm.steps))]
    return [
        each
        for each in (Box(*values) for values in leaves)
        if each.low <= arm.sparsity < each.high and each.first <= at[0] < each.last and each.early <= at[1] < each.late
    ]


arms = st.builds(
    Arm,
    sparsity=st.floats(0, 0.999),
    rank=st.sampled_from((1, 3, *RANKS, 64)),
    steps=st.sampled_from((1, 7, *STEPS, 99)),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(arms, st.floats(0, 1)), min_size=1, max_size=40), arms)
def test_boxes_tile_the_space_and_hold_the_discounted_sums(observations, other):
    made = tree(discount=0.9)
    leaves = made.start()
    for arm, reward in observations:
        leaves = made.observe(leaves, arm, reward)
        assert len(holding(leaves, arm)) == 1
    assert json.loads(json.dumps(leaves)) == leaves
    assert len(holding(leaves, other)) == 1
    weights = [0.9 ** (len(observations) - 1 - i) for i in range(len(observations))]
    assert sum(values[4] for values in leaves) == pytest.approx(sum(weights))
    rewards = sum(w * reward for w, (_, reward) in zip(weights, observations, strict=True))
    assert sum(values[5] for values in leaves) == pytest.approx(rewards)
    volume = sum((v[1] - v[0]) * (v[3] - v[2]) * (v[7] - v[6]) for v in leaves)
    assert volume == pytest.approx(len(RANKS) * len(STEPS))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(arms, st.floats(0, 1)), max_size=30),
    st.tuples(st.floats(0, 0.9), st.floats(0, 0.9)),
    st.sets(st.sampled_from(RANKS), min_size=1),
    st.sets(st.sampled_from(STEPS), min_size=1),
)
def test_every_leaf_inside_a_space_draws_arms_of_both(observations, ends, ranks, steps):
    made, rng = tree(), np.random.default_rng(0)
    leaves = made.start()
    for arm, reward in observations:
        leaves = made.observe(leaves, arm, reward)
    space = ArmSpace(
        sparsity_low=min(ends), sparsity_high=max(ends), ranks=tuple(sorted(ranks)), steps=tuple(sorted(steps))
    )
    inside = made.inside(leaves, space)
    assert inside
    for leaf in inside:
        arm = made.draw(leaf, space, rng)
        assert space.sparsity_low <= arm.sparsity <= space.sparsity_high
        assert arm.rank in space.ranks
        assert arm.steps in space.steps
        assert holding(leaves, arm) == [leaf]


def test_the_widest_side_is_cut_at_the_arm():
    made = tree(ranks=(4, 16), discount=1.0, split_count=1.0)
    [first, second] = made.observe([[0.0, 0.5, 0, 2, 1.0, 0.5, 0, 4]], Arm(sparsity=0.2, rank=16, steps=20), 0.9)
    assert (first, second) == ([0.0, 0.5, 0, 1, 1.0, 0.7, 0, 4], [0.0, 0.5, 1, 2, 1.0, 0.7, 0, 4])
    [first, second] = made.observe([second], Arm(sparsity=0.2, rank=16, steps=20), 0.7)
    assert (first[6:], second[6:]) == ([0, 2], [2, 4])
    assert (first[:4], second[4]) == ([0.0, 0.5, 1, 2], 1.0)


def test_widths_of_choices_are_shares_of_the_log_axis():
    narrow = [[0.0, 0.05, 0, 1, 9.0, 4.0, 0, 2]]  # steps 5 and 10 of 5 to 40: a third of the axis
    arm = Arm(sparsity=0.01, rank=2, steps=5)
    assert len(tree(min_width=1 / 3 + 1e-9).observe(narrow, arm, 0.5)) == 1
    assert len(tree(min_width=1 / 3 - 1e-9).observe(narrow, arm, 0.5)) == 2


def test_leaves_have_no_steps_where_they_are_no_choice():
    plain = Partition(ranks=RANKS, discount=1.0, min_width=0.1)
    assert plain.start() == [[0.0, 1.0, 0, 4, 0.0, 0.0]]
    arm = plain.draw(
        Box(*plain.start()[0]), ArmSpace(sparsity_low=0, sparsity_high=0, ranks=(4,)), np.random.default_rng(0)
    )
    assert arm == Arm(sparsity=0.0, rank=4, steps=0)


@pytest.mark.parametrize(
    "wrong",
    [{"ranks": ()}, {"steps": (0, 5)}, {"steps": (9, 5)}, {"steps": ()}, {"discount": 1.1}, {"split_count": 0.0}],
)
def test_refuses_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="bandit: expected"):
        tree(**wrong)


@pytest.mark.parametrize("reward", [-0.1, 1.1, math.nan])
def test_refuses_rewards_out_of_range(reward):
    with pytest.raises(ConfigError, match="reward"):
        tree().observe(tree().start(), Arm(sparsity=0.1, rank=4, steps=5), reward)
