import numpy as np
import pytest

from fedcore.core.bandit.fixed import FixedArm
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize(
    ("low", "high", "ranks", "sparsity", "rank"),
    [
        (0.0, 0.9, (4, 8, 16), 0.5, 8),
        (0.0, 0.3, (4, 16), 0.3, 4),
        (0.6, 0.9, (16, 32), 0.6, 16),
    ],
)
def test_clamps_the_wanted_arm_into_the_space(low, high, ranks, sparsity, rank):
    space = ArmSpace(sparsity_low=low, sparsity_high=high, ranks=ranks)
    bandit = FixedArm(sparsity=0.5, rank=8)
    assert bandit.select(bandit.start(), space, np.random.default_rng(0)) == Arm(sparsity=sparsity, rank=rank)


@pytest.mark.parametrize(("choices", "steps"), [((5, 10, 20), 10), ((5, 20), 5), ((20, 40), 20), ((0,), 0)])
def test_takes_the_wanted_steps_or_the_next_lower_ones(choices, steps):
    space = ArmSpace(sparsity_low=0.5, sparsity_high=0.5, ranks=(8,), steps=choices)
    assert FixedArm(sparsity=0.5, rank=8, steps=12).select({}, space, np.random.default_rng(0)).steps == steps


def test_learns_nothing():
    bandit = FixedArm(sparsity=0.5, rank=8)
    assert bandit.observe(bandit.start(), Arm(sparsity=0.5, rank=8), 1.0) == bandit.start() == {}


@pytest.mark.parametrize("wrong", [{"sparsity": 1.0}, {"rank": 0}, {"steps": -1}])
def test_refuses_an_impossible_arm(wrong):
    with pytest.raises(ConfigError):
        FixedArm(**({"sparsity": 0.5, "rank": 8} | wrong))
