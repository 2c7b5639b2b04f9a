"""A strategy as its file states it: how it reads a configuration, and the parts that no configuration names."""

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

    `settings` returns the configuration as the strategy reads it: what it ignores is set to what it does.
    `class_ranks` says which of `strategy.ranks` each class may have, all where it is None; `part` what of the adapter
    devices train, of a model of some geometry, as `strategy.factors` says where it is None; `adapt` has the last word
    on the policy, and may put another strategy around it or in its place. `cites` names the source, as text.
    """

    name: str
    settings: Callable[[Config], Config]
    class_ranks: Callable[[Config, RoundCost], Mapping[str, tuple[int, ...]]] | None = None
    part: Callable[[Geometry], PartChoice] | None = None
    adapt: Callable[[Policy], Strategy] = lambda policy: policy
    cites: str = ""

    def resolved(self, config: Config) -> Config:
        """Return the configuration as the strategy reads it, `training.handout` settled."""
        return with_handout(self.settings(config))


def with_handout(config: Config) -> Config:
    """Return a strategy's configuration with `training.handout` "kept" or "whole"; left open, "kept" if it can be.

    Devices fetch the rows they keep alone ("kept") or the whole adapter. Raises ConfigError where "kept" was asked for
    and another part of the run needs the other rows, or for an unknown aggregator.
    """
    why = _needs_other_rows(config)
    if config.training.handout == "kept" and why:
        raise ConfigError(f'training.handout = "kept" {why}, or leave the key out')
    settled = config.training.handout or ("whole" if why else "kept")
    return replace(config, training=replace(config.training, handout=settled))


def _needs_other_rows(config: Config) -> str:
    """Return what needs rows of groups that a device dropped, and what to do; empty where nothing does."""
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
