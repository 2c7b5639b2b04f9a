"""What parts do not go together, by the model and all classes."""

from dataclasses import replace

import pytest

from fedcore.config import ClassConfig
from fedcore.errors import ConfigError
from strategies.table import make_strategy
from tests.strategies.conftest import HEAD


@pytest.fixture
def made(config, geometry):
    """Return make(classes=(), changes to [strategy]) -> Strategy."""

    def make(classes=(), **changes):
        changed = replace(config, strategy=replace(config.strategy, **changes), classes=classes)
        return make_strategy(changed, geometry, HEAD)

    return make


@pytest.mark.parametrize(
    ("target", "classes", "who"),
    [
        (0.5, (), "strategy"),
        (0.0, (ClassConfig(name="tx2", target_sparsity=0.5),), "fleet.class tx2"),
        (0.5, (ClassConfig(name="tx2", target_sparsity=0.0),), "strategy"),  # whoever joins of no known class
    ],
)
def test_pruning_needs_a_round_of_warm_up(made, target, classes, who):
    with pytest.raises(ConfigError, match=f"warmup_rounds must be at least 1: .*target_sparsity of {who} is above 0"):
        made(classes, name="fedspine", target_sparsity=target, warmup_rounds=0)
    assert made(classes, name="fedspine", target_sparsity=target, warmup_rounds=1)


def test_what_never_prunes_needs_none(made):
    assert made(name="fedspine", target_sparsity=0.0, warmup_rounds=0)
    assert made(name="fedavg-lora", target_sparsity=0.5, warmup_rounds=0)
