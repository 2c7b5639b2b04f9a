"""Every strategy, by the name used in the configuration; `STRATEGIES.add` takes further ones."""

from fedcore.core.bandit.table import make_bandit
from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Bandit, Strategy
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Geometry
from fedcore.core.open_table import OpenTable
from fedcore.strategies.compose import HeadShapes, compose
from fedcore.strategies.composition.method import Method
from fedcore.strategies.methods import (
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

STRATEGIES = OpenTable(
    "strategy",
    {
        method.name: method
        for method in (
            fedspine.METHOD,
            fedavg_lora.METHOD,
            uniform.METHOD,
            random_arms.METHOD,
            fedmp.METHOD,
            oracle.METHOD,
            diloco.METHOD,
            hetlora.METHOD,
            flexlora.METHOD,
            raflora.METHOD,
            ffa_lora.METHOD,
            rolora.METHOD,
            legend.METHOD,
            flora.METHOD,
            fedex_lora.METHOD,
        )
    },
)


def make_strategy(
    config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
) -> Strategy:
    """Return the strategy that `config.strategy.name` names.

    `head_shapes` are the task head's tensors by canonical name ("head.weight", ...); `prior` has scores of the dense
    model's groups before any device's scores. Raises ConfigError naming the known strategies.
    """
    method = _method(config)
    return compose(method, method.resolved(config), geometry, head_shapes, prior)


def resolve_settings(config: Config) -> Config:
    """Return the configuration as the named strategy reads it: a setting that it ignores has the value that it uses."""
    return _method(config).resolved(config)


def bandit_of(config: Config) -> Bandit:
    """Return the bandit that the named strategy uses, for replay."""
    return make_bandit(resolve_settings(config).strategy)


def _method(config: Config) -> Method:
    if config.strategy.name not in STRATEGIES:
        raise ConfigError(f"strategy.name: expected one of {', '.join(STRATEGIES)}; got {config.strategy.name!r}")
    return STRATEGIES[config.strategy.name]
