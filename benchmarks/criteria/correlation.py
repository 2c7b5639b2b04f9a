"""When LoRA's gradients tell what the weights' own would: rank correlation over warm-up steps, by rank of the adapter.

At every checkpoint the true |w g| (`taylor`) and the stand-in (`lora-taylor`) are taken from the same batches ("same
batches"), and the running averages as a device has them by then from its training steps are set beside ("training").
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.criteria.curves import mean_scores, observed
from benchmarks.criteria.setup import Say, Setup
from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.scorer import GroupState


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoints:
    """After how many steps of warm-up, and on how many batches, which ranks are compared."""

    ranks: tuple[int, ...] = (4, 8, 16)
    steps: tuple[int, ...] = (0, 5, 15, 30, 60)
    batches: int = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Spearman's correlation with the true |w g|, mean over the layers."""

    rank: int
    seed: int
    steps: int
    signal: str  # "same batches" or "training"
    heads: float
    channels: float


def agreements(setup: Setup, plan: Checkpoints, seed: int, say: Say) -> Iterator[Agreement]:
    """Yield what every rank and checkpoint gives."""
    for rank in plan.ranks:
        classifier = setup.untrained(rank=rank, seed=seed)
        training = LoraTaylorScorer(GroupState.full(classifier.geometry))
        batches, done = setup.batches(plan.batches, seed=seed), 0
        for steps in plan.steps:
            setup.tune(classifier, steps=steps - done, seed=seed, part=f"warm-up from {done}", scorer=training)
            done = steps
            true = mean_scores([TaylorScorer().scores(classifier, batch) for batch in batches])
            signals = {"same batches": _stand_in(classifier, batches)}
            if steps:
                signals["training"] = training.scores(classifier, batches[0])
            for signal, scores in signals.items():
                heads, channels = _mean_spearman(true, scores)
                yield Agreement(rank=rank, seed=seed, steps=steps, signal=signal, heads=heads, channels=channels)
                say(f"rank {rank} after {steps} steps, {signal}: heads {heads:.2f}, channels {channels:.2f}")


def spearman(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return the rank correlation of two vectors without ties (ties rank by index)."""
    ranks = [np.argsort(np.argsort(vector, kind="stable"), kind="stable") for vector in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _stand_in(classifier: Classifier, batches: list[Batch]) -> GroupScores:
    scorer = LoraTaylorScorer(GroupState.full(classifier.geometry))
    for batch in batches:
        observed(scorer, classifier, batch)
    return scorer.scores(classifier, batches[-1])


def _mean_spearman(true: GroupScores, scores: GroupScores) -> tuple[float, float]:
    heads, channels = (
        float(np.mean([spearman(*pair) for pair in zip(getattr(true, kind), getattr(scores, kind), strict=True)]))
        for kind in ("heads", "channels")
    )
    return heads, channels
