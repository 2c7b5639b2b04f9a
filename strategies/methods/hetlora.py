"""HetLoRA: mixed ranks by device speed, zero-padded factors weighted by the size of what was learned.

Cho et al., "Heterogeneous LoRA for federated fine-tuning of on-device foundation models", EMNLP 2024, arXiv 2401.06432.
The formula, and what is left out (self-pruning of ranks), stand in `fedcore.core.aggregation.rules.hetlora`. The whole
model on every device; a class has the rank its speed allows (`fedcore.strategies.composition.unpruned`), where the
paper draws ranks at random.
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import ranks_by_speed, unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="hetlora", ranks=config.strategy.ranks)


METHOD = Method(name="hetlora", settings=settings, class_ranks=ranks_by_speed)
