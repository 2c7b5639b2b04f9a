"""What a strategy makes of values that were set: told, key by key, and nothing else."""

from dataclasses import replace

import pytest

from fedcore.core.config.tables import ClassConfig, Config, StrategyConfig, TrainingConfig
from fedcore.strategies.overruled import overruled
from fedcore.strategies.table import STRATEGIES


def test_what_was_set_and_is_read_otherwise_is_told():
    config = Config(
        strategy=StrategyConfig(name="diloco", aggregator="delta-stack", ranks=(4, 8)),
        training=TrainingConfig(local_steps=3),
        classes=(ClassConfig(name="tx2", target_sparsity=0.5), ClassConfig(name="agx")),
    )
    assert overruled(config) == [
        "strategy.ranks is [8], not [4, 8]",
        "strategy.aggregator is factor-mean, not delta-stack",
        "fleet.class.tx2.target_sparsity is unset, not 0.5",
    ]


@pytest.mark.parametrize("name", STRATEGIES)
def test_defaults_are_nobodys_mistake(name):
    assert overruled(Config(strategy=StrategyConfig(name=name))) == []


def test_fedspine_reads_what_was_set():
    config = Config(strategy=StrategyConfig(bandit="thompson", pace="off", aggregator="flora", weights="examples"))
    assert overruled(config) == []
    assert overruled(replace(config, strategy=replace(config.strategy, name="random-arms"))) == [
        "strategy.bandit is random, not thompson"
    ]
