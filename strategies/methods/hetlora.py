"""HetLoRA: mixed ranks by device speed, zero-padded factors weighted by the norm of their product.

Cho et al., "Heterogeneous LoRA for federated fine-tuning of on-device foundation models", EMNLP 2024, arXiv 2401.06432.
The formula, and the omitted part (self-pruning of ranks), are in `fedcore.core.aggregation.rules.hetlora`. Every device
has the whole model; a class has the rank that its speed allows (`fedcore.strategies.composition.unpruned`), while the
paper draws ranks at random.
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import ranks_by_speed, unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="hetlora", ranks=config.strategy.ranks)


METHOD = Method(name="hetlora", settings=settings, class_ranks=ranks_by_speed)
