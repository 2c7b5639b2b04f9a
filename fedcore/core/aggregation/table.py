"""Every aggregator, by the name used in the configuration; `AGGREGATORS.add` takes further ones."""

import math
from collections.abc import Callable
from typing import Any

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.aggregation.layer_mean import LayerMean
from fedcore.core.aggregation.rules.delta_stack import delta_stack
from fedcore.core.aggregation.rules.fedex_lora import fedex_lora
from fedcore.core.aggregation.rules.flexlora import flexlora
from fedcore.core.aggregation.rules.flora import flora
from fedcore.core.aggregation.rules.hetlora import hetlora
from fedcore.core.aggregation.rules.raflora import raflora
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.errors import ConfigError
from fedcore.core.open_table import OpenTable

AggregatorFactory = Callable[[float, int], Aggregator[Any]]  # of (server_lr, seed)

SHIPPED: dict[str, AggregatorFactory] = {
    "factor-mean": lambda server_lr, seed: FactorMean(server_lr=server_lr),
    "layer-mean": lambda server_lr, seed: LayerMean(server_lr=server_lr),
    "delta-stack": lambda server_lr, seed: delta_stack(server_lr=server_lr, seed=seed),
    "flexlora": lambda server_lr, seed: flexlora(server_lr=server_lr, seed=seed),
    "hetlora": lambda server_lr, seed: hetlora(server_lr=server_lr, seed=seed),
    "raflora": lambda server_lr, seed: raflora(server_lr=server_lr, seed=seed),
    "flora": lambda server_lr, seed: flora(server_lr=server_lr, seed=seed),
    "fedex-lora": lambda server_lr, seed: fedex_lora(server_lr=server_lr, seed=seed),
}
AGGREGATORS = OpenTable("aggregator", SHIPPED)


def make_aggregator(name: str, *, server_lr: float = 1.0, seed: int = 0) -> Aggregator[Any]:
    """Return the aggregator called `name`; `server_lr` > 0 scales the step, `seed` is the run seed.

    Raises ConfigError naming the known ones, or for a server_lr that is not a positive number.
    """
    if name not in AGGREGATORS:
        raise ConfigError(f"strategy.aggregator: expected one of {', '.join(AGGREGATORS)}; got {name!r}")
    if not (math.isfinite(server_lr) and server_lr > 0):
        raise ConfigError(f"strategy.server_lr must be a finite number above 0, got {server_lr}")
    return AGGREGATORS[name](server_lr, seed)
