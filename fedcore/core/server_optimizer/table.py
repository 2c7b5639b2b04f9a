"""Every server optimiser, by the name used in the configuration."""

from collections.abc import Callable, Mapping

from fedcore.core.config.tables import StrategyConfig
from fedcore.core.contract.protocols import ServerOptimizer
from fedcore.core.errors import ConfigError
from fedcore.core.server_optimizer.nesterov import Nesterov

# None: the aggregator's own step, server_lr along the mean, which needs no state.
SERVER_OPTIMIZERS: Mapping[str, Callable[[StrategyConfig], ServerOptimizer | None]] = {
    "sgd": lambda strategy: None,
    "nesterov": lambda strategy: Nesterov(lr=strategy.server_lr, momentum=strategy.server_momentum),
}


def make_server_optimizer(strategy: StrategyConfig) -> ServerOptimizer | None:
    """Return the optimiser that `strategy.server_optimizer` names; raises ConfigError naming the known ones."""
    if strategy.server_optimizer not in SERVER_OPTIMIZERS:
        raise ConfigError(
            f"strategy.server_optimizer: expected one of {', '.join(SERVER_OPTIMIZERS)}; "
            f"got {strategy.server_optimizer!r}"
        )
    return SERVER_OPTIMIZERS[strategy.server_optimizer](strategy)


def aggregator_lr(strategy: StrategyConfig) -> float:
    """Return the step along the mean that the aggregator itself takes: 1 where an optimiser takes the step."""
    return strategy.server_lr if make_server_optimizer(strategy) is None else 1.0
