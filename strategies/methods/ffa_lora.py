"""FFA-LoRA: the factor A stays frozen at its random initialisation, only B and the task head are trained and sent.

Sun et al., "Improving LoRA in privacy-preserving federated learning", ICLR 2024, arXiv 2403.12313. With one A for
all devices the mean of the products is the product of the mean,

    sum_k p_k (B_k A) = (sum_k p_k B_k) A

so averaging factors is exact, devices upload half of the adapter's bytes, and they keep no gradient or moment of A. A
never changes, so its download as a difference from the last round's adapter also costs almost nothing.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import unpruned
from fedcore.strategies.policy.part_choice import PARTS, partly_new


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: FedIT's, downloads as differences unless they are rounded.

    `strategy.aggregator` has no effect: a new decomposition would change A, and the mean of factors is exact.
    """
    dense = unpruned(config, aggregator="factor-mean", ranks=config.strategy.ranks[-1:])
    return replace(dense, training=replace(dense.training, downlink=partly_new(config)))


METHOD = Method(name="ffa-lora", settings=settings, part=lambda _: PARTS["b"])
