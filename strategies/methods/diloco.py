"""DiLoCo over LoRA factors: many local AdamW steps, then one outer Nesterov step along the mean of their changes.

Douillard et al., "DiLoCo: distributed low-communication training of language models", 2023, arXiv 2311.08105, algorithm
1: every worker takes H inner AdamW steps (`training.local_steps`) and keeps its own AdamW moments; the mean of their
changes, negated, is the gradient of an outer SGD with Nesterov momentum 0.9 and learning rate 0.7 (section 3.1).
Here the parameters are the LoRA factors and the task head, the mean is weighted by examples, and a round is an outer
step: devices may come and go between two, the momentum stays on the coordinator
(fedcore.core.server_optimizer.nesterov). `training.codec` quantises updates; "ef+int8+zstd" and "ef+int4+zstd"
add the loss to the next update.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config, StrategyConfig
from fedcore.strategies.composition.method import Method
from fedcore.strategies.methods import fedavg_lora

OUTER_LR = 0.7


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: FedIT's, with an outer optimiser and moments that stay.

    `strategy.server_lr` left at its default means 0.7; any other value, and `strategy.server_momentum`, stand. The
    aggregator is "factor-mean": momentum needs factors that keep their coordinates.
    """
    dense = fedavg_lora.settings(config)
    is_default = dense.strategy.server_lr == StrategyConfig().server_lr
    strategy = replace(
        dense.strategy,
        aggregator="factor-mean",
        server_optimizer="nesterov",
        server_lr=OUTER_LR if is_default else dense.strategy.server_lr,
    )
    return replace(dense, strategy=strategy, training=replace(dense.training, keep_optimizer=True))


METHOD = Method(name="diloco", settings=settings)
