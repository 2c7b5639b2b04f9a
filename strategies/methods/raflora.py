"""raFLoRA: FlexLoRA with each rank component averaged over the devices that hold it, against rank collapse.

Wu et al., "Preventing rank collapse in federated low-rank adaptation with client heterogeneity", 2026, arXiv
2602.13486. The formula is in `fedcore.core.aggregation.rules.raflora`. Every device has the whole model; a class has
the rank that its speed allows (`fedcore.strategies.composition.unpruned`).
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import ranks_by_speed, unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="raflora", ranks=config.strategy.ranks)


METHOD = Method(name="raflora", settings=settings, class_ranks=ranks_by_speed)
