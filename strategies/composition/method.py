"""The description of a strategy: how it reads a configuration, and the parts that no configuration names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Strategy
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Geometry
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.part_choice import PartChoice
from fedcore.strategies.policy.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One strategy.

    `settings` returns the configuration as the strategy reads it: a setting that it ignores has the value that it uses.
    `class_ranks` returns the `strategy.ranks` of each class; None allows all to all classes. `part` returns the rule of
    the trained part, for a model geometry; None follows `strategy.factors`. `adapt` makes the last changes to the
    policy; it may also wrap or replace it by another strategy. `cites` names the source, as text.
    """

    name: str
    settings: Callable[[Config], Config]
    class_ranks: Callable[[Config, RoundCost], Mapping[str, tuple[int, ...]]] | None = None
    part: Callable[[Geometry], PartChoice] | None = None
    adapt: Callable[[Policy], Strategy] = lambda policy: policy
    cites: str = ""

    def resolved(self, config: Config) -> Config:
        """Return the configuration as the strategy reads it, with `training.handout` resolved."""
        return with_handout(self.settings(config))


def with_handout(config: Config) -> Config:
    """Return a strategy's configuration with `training.handout` "kept" or "whole"; unset means "kept" if possible.

    Devices fetch only the rows that they keep ("kept") or the whole adapter. Raises ConfigError where "kept" is set and
    another part of the run needs the other rows, or for an unknown aggregator.
    """
    conflict = _needs_other_rows(config)
    if config.training.handout == "kept" and conflict:
        raise ConfigError(f'training.handout = "kept" {conflict}, or leave the key out')
    handout = config.training.handout or ("whole" if conflict else "kept")
    return replace(config, training=replace(config.training, handout=handout))


def _needs_other_rows(config: Config) -> str:
    """Return which setting needs rows of groups that a device dropped, and the remedy; empty where none does."""
    strategy = config.strategy
    if make_aggregator(strategy.aggregator).kind != "reducing":
        return (
            f"leaves out what aggregator {strategy.aggregator!r} multiplies again where updates are summed up: take "
            '"factor-mean" or "layer-mean"'
        )
    if strategy.order != "fleet":
        return (
            f"parts one adapter by nested keep-sets, and strategy.order = {strategy.order!r} has several orders: "
            'take "fleet"'
        )
    if config.training.distill > 0:
        return "leaves out what the dense model that training.distill asks is made of: take 0"
    return ""
