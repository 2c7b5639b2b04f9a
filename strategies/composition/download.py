"""Whether devices fetch the rows they keep alone, or the adapter whole: `training.handout`, settled."""

from dataclasses import replace

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError


def with_handout(config: Config) -> Config:
    """Return a strategy's configuration with `training.handout` "kept" or "whole"; left open, "kept" if it can be.

    Raises ConfigError where "kept" was asked for and somebody needs the other rows, or for an unknown aggregator.
    """
    why = _needs_other_rows(config)
    if config.training.handout == "kept" and why:
        raise ConfigError(f'training.handout = "kept" {why}, or leave the key out')
    settled = config.training.handout or ("whole" if why else "kept")
    return replace(config, training=replace(config.training, handout=settled))


def _needs_other_rows(config: Config) -> str:
    """Return who needs rows of groups that a device dropped, and what to do; empty where nobody does."""
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
