"""Uniform structured pruning and LoRA: one ratio and one rank for all devices, cut once, then tuned.

The recipe of Ma, Fang, Wang, "LLM-Pruner: on the structural pruning of large language models", NeurIPS 2023, arXiv
2305.11627: prune, then recover with LoRA; here federated, with the fleet's own importance scores and removal order:

    sparsity(device, t) = 0 for t <= warmup_rounds, target_sparsity from round warmup_rounds + 1 on
    rank(device, t)     = the largest of `strategy.ranks`

The criterion needs the warm-up's gradients, so the cut comes after it and not before the first round. A device with
too little memory for this gets the nearest feasible arm of the memory filter, as under every strategy.
"""

from dataclasses import replace

from fedcore.core.config.tables import Config
from fedcore.strategies.composition.method import Method


def settings(config: Config) -> Config:
    """Return the configuration as this strategy reads it: one target and rank, one cut, no bandit, equal steps.

    Target sparsities of classes, `strategy.bandit`, `strategy.local_steps_choices`, `strategy.pace` and
    `strategy.recovery_rounds` have no effect: every round after the cut is for recovery.
    """
    strategy = replace(
        config.strategy,
        ranks=config.strategy.ranks[-1:],
        bandit="fixed",
        local_steps_choices=(),
        pace="off",
        context=False,
        recovery_rounds=config.run.rounds,
    )
    classes = tuple(replace(kind, target_sparsity=None) for kind in config.classes)
    return replace(config, strategy=strategy, classes=classes)


METHOD = Method(name="uniform", settings=settings)
