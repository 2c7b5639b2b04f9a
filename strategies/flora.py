"""FLoRA: mixed ranks by device speed, stacked factors added to the base weights, fresh factors every round.

Wang et al., "FLoRA: federated fine-tuning large language models with heterogeneous low-rank adaptations", NeurIPS 2024,
arXiv 2409.05976. The formula stands in `fedcore.aggregation.flora`. The whole model on every device; a class has the
rank its speed allows (`strategies.speed_ranks`).
"""

from collections.abc import Sequence

from fedcore.config import Config
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from strategies.compose import compose
from strategies.policy import Policy
from strategies.speed_ranks import ranks_by_speed
from strategies.unpruned import unpruned

NAME = "flora"


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, no bandit, its own aggregator."""
    return unpruned(config, aggregator="flora", ranks=config.strategy.ranks)


def flora(
    config: Config,
    geometry: Geometry,
    head_shapes: Sequence[tuple[str, tuple[int, ...]]],
    prior: GroupScores | None = None,
) -> Policy:
    """Return the policy that gives every class the dense model and a rank by its speed."""
    return compose(NAME, settings(config), geometry, head_shapes, prior, class_ranks=ranks_by_speed)
