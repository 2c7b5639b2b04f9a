"""FlexLoRA: mixed ranks by device speed, the mean of the returned products, decomposed again for every rank.

Bai et al., "Federated fine-tuning of large language models under heterogeneous tasks and client resources", NeurIPS
2024, arXiv 2402.11505. The formula is in `fedcore.core.aggregation.rules.flexlora`. Every device has the
whole model; a class has the rank that its speed allows (`fedcore.strategies.composition.unpruned`), in place of the
resource types of the paper.
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import ranks_by_speed, unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="flexlora", ranks=config.strategy.ranks)


METHOD = Method(name="flexlora", settings=settings, class_ranks=ranks_by_speed)
