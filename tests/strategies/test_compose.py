"""What parts do not go together, by the model and all classes."""

from dataclasses import replace

import pytest

from fedcore.core.config.tables import ClassConfig
from fedcore.core.errors import ConfigError
from fedcore.core.model.trained_part import Factors
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import HEAD


@pytest.fixture
def made(config, geometry):
    """Return make(classes=(), changes to [strategy]) -> Strategy."""

    def make(classes=(), **changes):
        changed = replace(config, strategy=replace(config.strategy, **changes), classes=classes)
        return make_strategy(changed, geometry, HEAD)

    return make


@pytest.mark.parametrize(
    ("target", "classes", "table"),
    [
        (0.5, (), "strategy"),
        (0.0, (ClassConfig(name="tx2", target_sparsity=0.5),), "fleet.class tx2"),
        (0.5, (ClassConfig(name="tx2", target_sparsity=0.0),), "strategy"),  # a device of an unknown class may join
    ],
)
def test_pruning_needs_a_round_of_warm_up(made, target, classes, table):
    with pytest.raises(ConfigError, match=f"warmup_rounds must be at least 1: .*target_sparsity of {table} is above 0"):
        made(classes, name="fedspine", target_sparsity=target, warmup_rounds=0)
    assert made(classes, name="fedspine", target_sparsity=target, warmup_rounds=1)


def test_what_never_prunes_needs_none(made):
    assert made(name="fedspine", target_sparsity=0.0, warmup_rounds=0)
    assert made(name="fedavg-lora", target_sparsity=0.5, warmup_rounds=0)


@pytest.mark.parametrize("name", ["fedspine", "uniform"])
def test_factors_may_take_turns_under_pruning(config, geometry, name, roster, play):
    def turns(factors):
        changed = replace(
            config,
            strategy=replace(config.strategy, name=name, factors=factors),
            training=replace(config.training, keep_optimizer=False),
        )
        _, plans, _ = play(make_strategy(changed, geometry, HEAD), roster, 4)
        return [{each.training.trains.factors for each in plan.assignments} for plan, _ in plans]

    assert turns("alternating") == [{Factors.B}, {Factors.A}, {Factors.B}, {Factors.A}]
    assert turns("b") == [{Factors.B}] * 4
    assert turns("both") == [{Factors.BOTH}] * 4
