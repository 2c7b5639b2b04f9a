"""Replay asks for the bandit a strategy really uses, which is not always the configured one."""

import pytest

from fedcore.core.config.toml import parse_config
from fedcore.core.errors import ConfigError
from fedcore.strategies.table import STRATEGIES, bandit_of


@pytest.mark.parametrize(
    ("strategy", "bandit", "used"),
    [
        ("fedspine", "s-ucb", "s-ucb"),
        ("fedspine", "fixed", "fixed"),
        ("fedspine", "random", "random"),
        ("fedavg-lora", "s-ucb", "fixed"),
        ("fedavg-lora", "random", "fixed"),
        ("uniform", "s-ucb", "fixed"),
        ("random-arms", "s-ucb", "random"),
        ("hetlora", "s-ucb", "fixed"),
        ("fedex-lora", "random", "fixed"),
    ],
)
def test_the_bandit_is_the_one_the_strategy_asks(strategy: str, bandit: str, used: str) -> None:
    config = parse_config(f'[strategy]\nname = "{strategy}"\nbandit = "{bandit}"\n')
    assert bandit_of(config).name == used


def test_an_unknown_strategy_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=f"expected one of {', '.join(STRATEGIES)}; got 'fedavg'"):
        bandit_of(parse_config('[strategy]\nname = "fedavg"\n'))
