"""FedEx-LoRA: one rank for all, averaged factors, and the residual of their product added to the base weights.

Singhal, Ponkshe, Vepakomma, "FedEx-LoRA: exact aggregation for federated and efficient fine-tuning of foundation
models", ACL 2025, arXiv 2410.09432. The formula stands in `fedcore.aggregation.fedex_lora`. The whole model and the
largest rank on every device: the paper's method is for equal ranks.
"""

from collections.abc import Sequence

from fedcore.config import Config
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from strategies.compose import compose
from strategies.policy import Policy
from strategies.unpruned import unpruned

NAME = "fedex-lora"


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="fedex-lora", ranks=config.strategy.ranks[-1:])


def fedex_lora(
    config: Config,
    geometry: Geometry,
    head_shapes: Sequence[tuple[str, tuple[int, ...]]],
    prior: GroupScores | None = None,
) -> Policy:
    """Return the policy that gives every device the dense model and the largest configured rank."""
    return compose(NAME, settings(config), geometry, head_shapes, prior)
