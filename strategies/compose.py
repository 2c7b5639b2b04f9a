"""Compose a policy from the parts that a configuration and a method name."""

from collections.abc import Sequence

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.bandit.table import make_bandit
from fedcore.core.config.auto import warmup_rounds
from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Strategy
from fedcore.core.errors import ConfigError
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Geometry
from fedcore.core.pruning.kinds import LAYERS
from fedcore.core.server_optimizer.table import aggregator_lr, make_server_optimizer
from fedcore.strategies.composition.method import Method
from fedcore.strategies.methods import fedspine
from fedcore.strategies.policy.cost import round_cost
from fedcore.strategies.policy.pacer import make_pacer
from fedcore.strategies.policy.part_choice import PARTS
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.policy.rate_finder import make_rate_finder

HeadShapes = Sequence[tuple[str, tuple[int, ...]]]


def compose(
    method: Method, config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
) -> Strategy:
    """Return the strategy of `method`: its policy (`make_policy`), with the method's last word on it."""
    return method.adapt(make_policy(method, config, geometry, head_shapes, prior))


def make_policy(
    method: Method, config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
) -> Policy:
    """Return the policy of `method`, for a model of `geometry` with a task head of `head_shapes`.

    `config` is the run's configuration as the method reads it (`Method.resolved`). `prior` has scores of the dense
    model's groups before any device's scores. Raises ConfigError for an unknown bandit, aggregator, server optimiser or
    adapter target, for parts that do not go together, and for a cut before any group was scored.
    """
    strategy = config.strategy
    _check_warmup(config)
    aggregator = make_aggregator(strategy.aggregator, server_lr=aggregator_lr(strategy), seed=config.run.seed)
    optimizer = make_server_optimizer(strategy)
    if optimizer is not None and aggregator.kind != "reducing":
        raise ConfigError(
            f"strategy.server_optimizer = {optimizer.name!r} moves the mean of factors, and aggregator "
            f'{aggregator.name!r} is made of more than means: take "factor-mean" or "layer-mean", or "sgd"'
        )
    _check_factors(config, aggregator.kind)
    _check_remove(config, aggregator.kind)
    spec = AdapterSpec(
        geometry=geometry,
        rank=aggregator.server_rank(strategy.ranks[-1]),
        targets=config.training.targets or geometry.modules,
        head=tuple(sorted((head, tuple(shape)) for head, shape in head_shapes)),
    )
    cost = round_cost(config, spec)
    return Policy(
        name=method.name,
        config=config,
        spec=spec,
        aggregator=aggregator,
        server_optimizer=optimizer,
        pacer=make_pacer(config, cost),
        rates=make_rate_finder(config),
        bandit=make_bandit(strategy),
        cost=cost,
        algorithm=fedspine.ALGORITHM,
        class_ranks={} if method.class_ranks is None else method.class_ranks(config, cost),
        part=PARTS[strategy.factors] if method.part is None else method.part(geometry),
        prior=prior,
    )


def _check_warmup(config: Config) -> None:
    targets = {f"fleet.class {kind.name}": config.target_sparsity(kind.name) for kind in config.classes}
    pruned = [name for name, target in ({"strategy": config.strategy.target_sparsity} | targets).items() if target > 0]
    if warmup_rounds(config) < 1 and pruned:
        raise ConfigError(
            "strategy.warmup_rounds must be at least 1: importance needs a round before the first cut, and "
            f"target_sparsity of {pruned[0]} is above 0"
        )


def _check_remove(config: Config, kind: str) -> None:
    """Raise ConfigError where whole layers may go and updates are multiplied out: those rules need every layer."""
    remove, aggregator = config.strategy.remove, config.strategy.aggregator
    if LAYERS in remove and kind != "reducing":
        raise ConfigError(
            f"strategy.remove = {list(remove)}: aggregator {aggregator!r} multiplies the factors of every layer, and a "
            'device has none of a removed one: take "factor-mean" or "layer-mean", or leave layers out of remove'
        )


def _check_factors(config: Config, kind: str) -> None:
    """Raise ConfigError for settings that move a factor that does not train, or keep a state of it."""
    strategy, setting = config.strategy, f"strategy.factors = {config.strategy.factors!r}"
    if strategy.factors == "both":
        return
    if kind != "reducing":
        raise ConfigError(f'{setting} keeps a mean of factors exact: take aggregator "factor-mean" or "layer-mean"')
    if strategy.factors == "alternating" and (config.training.keep_optimizer or strategy.server_optimizer != "sgd"):
        raise ConfigError(
            f"{setting}: moments would be two rounds old when a factor's turn comes; take training.keep_optimizer = "
            'false and strategy.server_optimizer = "sgd"'
        )
