"""FedEx-LoRA: one rank for all, averaged factors, and the residual of their product added to the base weights.

Singhal, Ponkshe, Vepakomma, "FedEx-LoRA: exact aggregation for federated and efficient fine-tuning of foundation
models", ACL 2025, arXiv 2410.09432. The formula is in `fedcore.core.aggregation.rules.fedex_lora`. Every device
has the whole model and the largest rank: the paper's method is for equal ranks.
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="fedex-lora", ranks=config.strategy.ranks[-1:])


METHOD = Method(name="fedex-lora", settings=settings)
