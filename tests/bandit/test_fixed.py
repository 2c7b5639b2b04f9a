import numpy as np
import pytest

from fedcore.assignment import Arm
from fedcore.bandit.fixed import FixedArm
from fedcore.errors import ConfigError
from fedcore.protocols import ArmSpace


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


def test_learns_nothing():
    bandit = FixedArm(sparsity=0.5, rank=8)
    assert bandit.observe(bandit.start(), Arm(sparsity=0.5, rank=8), 1.0) == bandit.start() == {}


@pytest.mark.parametrize("wrong", [{"sparsity": 1.0}, {"rank": 0}])
def test_refuses_an_impossible_arm(wrong):
    with pytest.raises(ConfigError):
        FixedArm(**({"sparsity": 0.5, "rank": 8} | wrong))
