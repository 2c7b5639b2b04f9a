"""Put a policy together from the parts that a configuration names."""

from collections.abc import Callable, Mapping, Sequence

from fedcore.adapter import AdapterSpec
from fedcore.aggregation.table import make_aggregator
from fedcore.bandit.table import make_bandit
from fedcore.config import Config
from fedcore.errors import ConfigError
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from fedcore.server_optimizer.table import aggregator_lr, make_server_optimizer
from strategies.cost import RoundCost, round_cost
from strategies.pacer import make_pacer
from strategies.policy import Policy
from strategies.trained_part import WHOLE, TrainedPart


def compose(
    name: str,
    config: Config,
    geometry: Geometry,
    head_shapes: Sequence[tuple[str, tuple[int, ...]]],
    prior: GroupScores | None = None,
    *,
    class_ranks: Callable[[Config, RoundCost], Mapping[str, tuple[int, ...]]] | None = None,
    part: TrainedPart = WHOLE,
) -> Policy:
    """Return the policy whose parts `config` names, for a model of `geometry` with a task head of `head_shapes`.

    `class_ranks` says which of `strategy.ranks` each class may have, all where it is not given; `part` what of the
    adapter each device trains.

    Raises ConfigError for an unknown bandit, aggregator, server optimiser or adapter target, and for parts that do not
    go together.
    """
    strategy = config.strategy
    aggregator = make_aggregator(strategy.aggregator, server_lr=aggregator_lr(strategy), seed=config.run.seed)
    optimizer = make_server_optimizer(strategy)
    if optimizer is not None and aggregator.kind != "reducing":
        raise ConfigError(
            f"strategy.server_optimizer = {optimizer.name!r} needs factors that keep their coordinates from round to "
            f'round; aggregator {aggregator.name!r} changes their basis: take "factor-mean" or "sgd"'
        )
    spec = AdapterSpec(
        geometry=geometry,
        rank=aggregator.server_rank(strategy.ranks[-1]),
        targets=config.training.targets or geometry.modules,
        head=tuple(sorted((head, tuple(shape)) for head, shape in head_shapes)),
    )
    cost = round_cost(config, spec)
    return Policy(
        name=name,
        config=config,
        spec=spec,
        aggregator=aggregator,
        server_optimizer=optimizer,
        pacer=make_pacer(strategy, cost, config.training.importance),
        bandit=make_bandit(strategy),
        cost=cost,
        class_ranks={} if class_ranks is None else class_ranks(config, cost),
        part=part,
        prior=prior,
    )
