"""FLoRA: mixed ranks by device speed, stacked factors added to the base weights, fresh factors every round.

Wang et al., "FLoRA: federated fine-tuning large language models with heterogeneous low-rank adaptations", NeurIPS 2024,
arXiv 2409.05976. The formula is in `fedcore.core.aggregation.rules.flora`. Every device has the whole model; a class
has the rank that its speed allows (`fedcore.strategies.composition.unpruned`).
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import ranks_by_speed, unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="flora", ranks=config.strategy.ranks)


METHOD = Method(name="flora", settings=settings, class_ranks=ranks_by_speed)
