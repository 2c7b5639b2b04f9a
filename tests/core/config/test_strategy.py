import math

import pytest

from fedcore.core.aggregation.table import AGGREGATORS
from fedcore.core.bandit.table import BANDITS
from fedcore.core.config import strategy
from fedcore.core.config.tables import StrategyConfig
from fedcore.core.errors import ConfigError
from fedcore.core.server_optimizer.table import SERVER_OPTIMIZERS
from fedcore.strategies.table import STRATEGIES

NAN = math.nan


@pytest.mark.parametrize("steps", [(8, 4), (4, 4), (0, 4)])
def test_choices_of_steps_ascend_from_one_without_doubles(steps: tuple[int, ...]) -> None:
    assert StrategyConfig(local_steps_choices=(5, 10)).local_steps_choices == (5, 10)
    with pytest.raises(ConfigError, match=r"strategy\.local_steps_choices"):
        StrategyConfig(local_steps_choices=steps)


def test_a_context_needs_a_pace() -> None:
    assert StrategyConfig(context=True, pace="filter").context
    with pytest.raises(ConfigError, match=r"needs learned speeds: set strategy\.pace"):
        StrategyConfig(context=True, pace="off")


@pytest.mark.parametrize("ranks", [(8, 4), (4, 4)])
def test_ranks_ascend_without_doubles(ranks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="expected ascending, different ranks"):
        StrategyConfig(ranks=ranks)


def test_at_least_one_rank_is_needed() -> None:
    with pytest.raises(ConfigError, match="expected at least one rank"):
        StrategyConfig(ranks=())


@pytest.mark.parametrize("weight", [-0.1, NAN])
def test_reward_weights_are_not_negative(weight: float) -> None:
    with pytest.raises(ConfigError, match="reward_weights must be at least 0"):
        StrategyConfig(reward_weights=(1.0, weight, 0.0, 0.0))


def test_an_editor_offers_the_names_that_the_tables_know() -> None:
    assert set(strategy.STRATEGIES) == set(STRATEGIES)
    assert set(strategy.BANDITS) == set(BANDITS)
    assert set(strategy.AGGREGATORS) == set(AGGREGATORS)
    assert set(strategy.SERVER_OPTIMIZERS) == set(SERVER_OPTIMIZERS)


def test_an_own_name_is_left_to_the_tables() -> None:
    config = StrategyConfig(name="mine", bandit="own", aggregator="median", server_optimizer="adam")
    assert (config.name, config.bandit, config.aggregator, config.server_optimizer) == ("mine", "own", "median", "adam")
