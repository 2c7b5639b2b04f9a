"""Every strategy, by the name used in the configuration."""

from collections.abc import Callable, Mapping, Sequence

from fedcore.bandit.table import make_bandit
from fedcore.config import Config
from fedcore.errors import ConfigError
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from fedcore.protocols import Bandit, Strategy
from strategies import (
    diloco,
    fedavg_lora,
    fedex_lora,
    fedmp,
    fedspine,
    ffa_lora,
    flexlora,
    flora,
    hetlora,
    legend,
    oracle,
    raflora,
    random_arms,
    rolora,
    uniform,
)

HeadShapes = Sequence[tuple[str, tuple[int, ...]]]

STRATEGIES: Mapping[str, Callable[[Config, Geometry, HeadShapes, GroupScores | None], Strategy]] = {
    "fedspine": fedspine.fedspine,
    "fedavg-lora": fedavg_lora.fedavg_lora,
    "uniform": uniform.uniform,
    "random-arms": random_arms.random_arms,
    "fedmp": fedmp.fedmp,
    "oracle": oracle.oracle,
    "diloco": diloco.diloco,
    "hetlora": hetlora.hetlora,
    "flexlora": flexlora.flexlora,
    "raflora": raflora.raflora,
    "ffa-lora": ffa_lora.ffa_lora,
    "rolora": rolora.rolora,
    "legend": legend.legend,
    "flora": flora.flora,
    "fedex-lora": fedex_lora.fedex_lora,
}


SETTINGS: Mapping[str, Callable[[Config], Config]] = {
    "fedspine": fedspine.settings,
    "fedavg-lora": fedavg_lora.settings,
    "uniform": uniform.settings,
    "random-arms": random_arms.settings,
    "fedmp": fedmp.settings,
    "oracle": oracle.settings,
    "diloco": diloco.settings,
    "hetlora": hetlora.settings,
    "flexlora": flexlora.settings,
    "raflora": raflora.settings,
    "ffa-lora": ffa_lora.settings,
    "rolora": rolora.settings,
    "legend": legend.settings,
    "flora": flora.settings,
    "fedex-lora": fedex_lora.settings,
}


def make_strategy(
    config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
) -> Strategy:
    """Return the strategy that `config.strategy.name` names.

    `head_shapes` are the task head's tensors by canonical name ("head.weight", ...); `prior` scores the dense model's
    groups before any device did. Raises ConfigError naming the known strategies.
    """
    return STRATEGIES[_known(config)](config, geometry, head_shapes, prior)


def resolve_settings(config: Config) -> Config:
    """Return the configuration as the named strategy reads it: what it ignores is set to what it does."""
    return SETTINGS[_known(config)](config)


def bandit_of(config: Config) -> Bandit:
    """Return the bandit the named strategy really uses, for replay."""
    return make_bandit(resolve_settings(config).strategy)


def _known(config: Config) -> str:
    if config.strategy.name not in STRATEGIES:
        raise ConfigError(f"strategy.name: expected one of {', '.join(STRATEGIES)}; got {config.strategy.name!r}")
    return config.strategy.name
