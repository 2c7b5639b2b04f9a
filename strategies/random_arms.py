"""FedSpine with arms drawn at random: what its bandit has to beat.

Everything but the choice is that of FedSpine without a pace (`strategy.pace = "off"`, strategies.fedspine): the same
feasible arms, schedule, order, aggregator and weights. For device i in round t, independently,

    sparsity ~ U[low_i(t), high_i(t)],   rank ~ U(the ranks that fit)
"""

from collections.abc import Sequence
from dataclasses import replace

from fedcore.config import Config
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from strategies.compose import compose
from strategies.policy import Policy
from strategies.weights import weighted

NAME = "random-arms"


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: `strategy.bandit` is "random", and there is no pace."""
    strategy = replace(weighted(config.strategy), bandit="random", pace="off", context=False)
    return replace(config, strategy=strategy)


def random_arms(
    config: Config,
    geometry: Geometry,
    head_shapes: Sequence[tuple[str, tuple[int, ...]]],
    prior: GroupScores | None = None,
) -> Policy:
    """Return FedSpine's policy with the random bandit."""
    return compose(NAME, settings(config), geometry, head_shapes, prior)
