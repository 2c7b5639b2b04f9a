"""What federated LoRA methods without pruning share: the whole model on every device, and no bandit."""

from dataclasses import replace

from fedcore.core.config.tables import Config


def unpruned(config: Config, *, aggregator: str, ranks: tuple[int, ...] | None = None) -> Config:
    """Return the configuration without pruning, with this aggregator and ranks, and the largest feasible rank chosen.

    `ranks` None leaves `strategy.ranks` as they are.
    Target sparsities, of the strategy and of every class, `strategy.bandit`, `strategy.aggregator`, `strategy.factors`,
    `strategy.pace` and `strategy.local_steps_choices` have no effect.
    """
    strategy = replace(
        config.strategy,
        target_sparsity=0.0,
        ranks=config.strategy.ranks if ranks is None else ranks,
        bandit="fixed",
        aggregator=aggregator,
        factors="both",
        local_steps_choices=(),
        pace="off",
        context=False,
    )
    classes = tuple(replace(each, target_sparsity=None) for each in config.classes)
    return replace(config, strategy=strategy, classes=classes)
