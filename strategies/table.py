"""Every strategy, by the name used in the configuration."""

from collections.abc import Callable, Mapping, Sequence

from fedcore.config import Config
from fedcore.errors import ConfigError
from fedcore.geometry import Geometry
from fedcore.outcome import GroupScores
from fedcore.protocols import Strategy
from strategies.fedavg_lora import fedavg_lora
from strategies.fedspine import fedspine

HeadShapes = Sequence[tuple[str, tuple[int, ...]]]

STRATEGIES: Mapping[str, Callable[[Config, Geometry, HeadShapes, GroupScores | None], Strategy]] = {
    "fedspine": fedspine,
    "fedavg-lora": fedavg_lora,
}


def make_strategy(
    config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
) -> Strategy:
    """Return the strategy that `config.strategy.name` names.

    `head_shapes` are the task head's tensors by canonical name ("head.weight", ...); `prior` scores the dense model's
    groups before any device did. Raises ConfigError naming the known strategies.
    """
    if config.strategy.name not in STRATEGIES:
        raise ConfigError(f"strategy.name: expected one of {', '.join(STRATEGIES)}; got {config.strategy.name!r}")
    return STRATEGIES[config.strategy.name](config, geometry, head_shapes, prior)
