import json
import math

import numpy as np
import pytest

from fedcore.core.bandit.linucb import RIDGE, LinUcb
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError

POINT = ArmSpace(sparsity_low=0.5, sparsity_high=0.5, ranks=(4, 16))


def features(sparsity, rank, context=()):
    place = {4: 0.0, 8: 0.5, 16: 1.0}[rank]
    crossed = [c * each for c in context for each in (1.0, sparsity, place, 0.0)]
    return np.array([1.0, sparsity, place, 0.0, sparsity**2, place**2, 0.0, *crossed])


@pytest.mark.parametrize("context", [(), (0.3, 0.7)])
def test_the_bound_is_ridge_regression_with_its_ellipsoid(context):
    rng, seen = np.random.default_rng(1), []
    bandit = LinUcb(ranks=(4, 8, 16), discount=0.9, exploration=0.4)
    state = bandit.start()
    for _ in range(6):
        arm, reward = Arm(sparsity=float(rng.random() * 0.9), rank=int(rng.choice((4, 8, 16)))), float(rng.random())
        seen.append((features(arm.sparsity, arm.rank, context), reward))
        state = bandit.observe(state, arm, reward, context)
    ages = [0.9 ** (len(seen) - 1 - index) for index in range(len(seen))]
    gram = RIDGE * np.eye(len(seen[0][0])) + sum(w * np.outer(x, x) for w, (x, _) in zip(ages, seen, strict=True))
    sums = sum(w * reward * x for w, (x, reward) in zip(ages, seen, strict=True))
    inverse = np.linalg.inv(gram)
    bounds = {}
    for rank in (4, 16):
        x = features(0.5, rank, context)
        bounds[rank] = x @ inverse @ sums + 0.4 * math.sqrt(x @ inverse @ x)
    space = ArmSpace(sparsity_low=0.5, sparsity_high=0.5, ranks=(4, 16), context=context)
    assert bandit.select(state, space, np.random.default_rng(0)).rank == max(bounds, key=bounds.get)
    assert json.loads(json.dumps(state)) == state


def test_learns_that_what_pays_depends_on_the_device():
    """Large ranks pay on fast devices (context 0) and cost on slow ones (context 1)."""
    rng, bandit = np.random.default_rng(0), LinUcb(ranks=(4, 8, 16), exploration=0.05)
    state = bandit.start()
    for _ in range(60):
        slow, rank = float(rng.integers(2)), int(rng.choice((4, 8, 16)))
        place = features(0.5, rank)[2]
        reward = 0.5 + (0.4 - 0.8 * slow) * (place - 0.5)
        state = bandit.observe(state, Arm(sparsity=0.5, rank=rank), reward, (slow,))
    picks = [
        bandit.select(state, ArmSpace(sparsity_low=0.5, sparsity_high=0.5, ranks=(4, 16), context=(slow,)), rng).rank
        for slow in (0.0, 1.0)
    ]
    assert picks == [16, 4]


@pytest.mark.parametrize("wrong", [{"ranks": ()}, {"steps": ()}, {"discount": 0.0}, {"exploration": -1.0}])
def test_refuses_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="linucb"):
        LinUcb(**({"ranks": (4, 16)} | wrong))


@pytest.mark.parametrize("reward", [-0.1, 1.1, math.nan])
def test_refuses_rewards_out_of_range(reward):
    bandit = LinUcb(ranks=(4, 16))
    with pytest.raises(ConfigError, match="reward"):
        bandit.observe(bandit.start(), Arm(sparsity=0.1, rank=4), reward)
