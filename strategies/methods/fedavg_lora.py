"""FedAvg over LoRA factors: the full model and one rank on every device, no pruning.

Zhang et al., "Towards building the federated GPT: federated instruction tuning" (FedIT), 2023, arXiv 2305.05644: FedAvg
(McMahan et al., 2017, arXiv 1602.05629) of the factors A and B, here as increments, weighted by examples. With
the aggregator "factor-mean" and a server_lr of 1 it is exactly that.
"""

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method
from fedcore.strategies.composition.unpruned import unpruned


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: no pruning, the largest rank, no bandit, equal steps.

    Target sparsities, of the strategy and of every class, `strategy.bandit`, `strategy.local_steps_choices` and
    `strategy.pace` have no effect.
    """
    return unpruned(config, aggregator=config.strategy.aggregator, ranks=config.strategy.ranks[-1:])


METHOD = Method(name="fedavg-lora", settings=settings)
