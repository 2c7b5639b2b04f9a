"""RoLoRA: in odd rounds all devices train B with A frozen, in even rounds A with B frozen; the head always.

Chen et al., "Robust federated finetuning of LLMs via alternating optimization of LoRA", NeurIPS 2025, arXiv 2502.01755,
algorithm 1 (first as arXiv 2409.02346). The frozen factor is the same for all devices, so that in every round the mean
of the products is the product of the means,

    odd:  sum_k p_k (B_k A) = (sum_k p_k B_k) A        even:  sum_k p_k (B A_k) = B (sum_k p_k A_k)

and half of the adapter's bytes go up. Only counted rounds alternate: void ones are no turns
(fedcore.strategies.policy.part_choice). A factor's moments would be two rounds old at its turn, so the optimiser begins
anew in every round, and no momentum on the coordinator moves a frozen factor.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import unpruned
from fedcore.strategies.policy.part_choice import ALTERNATING, partly_new


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: FedIT's, downloads as differences unless they are
    rounded, and a fresh optimiser.

    `strategy.aggregator`, `strategy.server_optimizer` and `training.keep_optimizer` have no effect.
    """
    dense = unpruned(config, aggregator="factor-mean", ranks=config.strategy.ranks[-1:])
    return replace(
        dense,
        strategy=replace(dense.strategy, server_optimizer="sgd"),
        training=replace(dense.training, downlink=partly_new(config), keep_optimizer=False),
    )


METHOD = Method(name="rolora", settings=settings, part=lambda _: ALTERNATING)
