"""Accuracy against sparsity by criterion: one-shot, and after a short recovery."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.criteria.setup import Say, Setup, fork
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Json
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.core.pruning.ordering import initial_order, keep_set
from fedcore.core.seeds import derive_seed
from fedcore.nn.criteria.compensation import compensate, input_means
from fedcore.nn.criteria.table import SCORERS, Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import evaluate, forward_logits
from fedcore.nn.training.objective import objective_of
from fedcore.nn.training.scorer import Scorer

COMPENSATED = "flap+bias"
CASES = (*SCORERS, COMPENSATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long everything takes."""

    warmup_steps: int = 60
    rank: int = 8
    calibration_batches: int = 8
    gate_steps: int = 40  # of training with gates, for a criterion that learns them
    sparsities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 0.75)
    recovered: tuple[float, ...] = (0.3, 0.5, 0.7)
    recovery_steps: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One pruned model on the held-back rows."""

    case: str
    seed: int
    sparsity: float  # requested
    realised: float
    recovery_steps: int
    accuracy: float
    loss: float


def curves(setup: Setup, plan: Plan, cases: Sequence[str], seed: int, say: Say) -> Iterator[Point]:
    """Yield the dense model's point and every case's, all from one warm-up."""
    warm = setup.untrained(rank=plan.rank, seed=seed)
    setup.tune(warm, steps=plan.warmup_steps, seed=seed, part="warm-up")
    batches = setup.batches(plan.calibration_batches, seed=seed)
    yield _point(setup, warm, case="dense", seed=seed, sparsity=0.0, recovery_steps=0)
    for case in cases:
        scores = scores_of(case.removesuffix("+bias"), setup, warm, batches, plan, seed)
        order = initial_order(warm.geometry, scores)
        for sparsity in plan.sparsities:
            pruned = _pruned(warm, order, sparsity, batches if case == COMPENSATED else ())
            point = _point(setup, pruned, case=case, seed=seed, sparsity=sparsity, recovery_steps=0)
            yield point
            said = f"seed {seed} {case} {sparsity:.0%}: {point.accuracy:.3f}"
            if sparsity in plan.recovered:
                setup.tune(pruned, steps=plan.recovery_steps, seed=seed, part="recovery")
                point = _point(
                    setup, pruned, case=case, seed=seed, sparsity=sparsity, recovery_steps=plan.recovery_steps
                )
                yield point
                said += f", recovered {point.accuracy:.3f}"
            say(said)


def scores_of(
    criterion: str, setup: Setup, warm: Classifier, batches: Sequence[Batch], plan: Plan, seed: int
) -> GroupScores:
    """Return the scores of all groups, averaged over the batches; `warm` stays as it is.

    Learned gates take training steps of their own instead.
    """
    scorer = make_scorer(criterion, Beginning(geometry=warm.geometry, seed=derive_seed(seed, "scores")))
    if CRITERIA[criterion].own_steps:
        setup.tune(fork(warm), steps=plan.gate_steps, seed=seed, part="gates", scorer=scorer)
        return scorer.scores(warm, batches[-1])
    if criterion == "lora-taylor":
        for batch in batches:
            observed(scorer, warm, batch)
        return scorer.scores(warm, batches[-1])
    return mean_scores([scorer.scores(warm, batch) for batch in batches])


def observed(scorer: Scorer, classifier: Classifier, batch: Batch) -> None:
    """Let `scorer` see the gradients of `batch`, without a step."""
    classifier.model.eval()
    objective_of(classifier)(forward_logits(classifier, batch), batch["labels"]).backward()  # type: ignore[no-untyped-call]
    scorer.observe(classifier)
    classifier.model.zero_grad(set_to_none=True)


def mean_scores(measured: Sequence[GroupScores]) -> GroupScores:
    """Return the plain mean of scores over the same groups."""
    return GroupScores(
        heads=tuple(np.mean(rows, axis=0) for rows in zip(*(scores.heads for scores in measured), strict=True)),
        channels=tuple(np.mean(rows, axis=0) for rows in zip(*(scores.channels for scores in measured), strict=True)),
    )


def _pruned(warm: Classifier, order: Json, sparsity: float, compensated_on: Sequence[Batch]) -> Classifier:
    pruned = fork(warm)
    kept = keep_set(order, warm.geometry, keep_counts(warm.geometry, sparsity))
    if compensated_on:
        compensate(pruned, kept, input_means(pruned, compensated_on))
    shrink(pruned, kept)
    return pruned


def _point(
    setup: Setup, classifier: Classifier, *, case: str, seed: int, sparsity: float, recovery_steps: int
) -> Point:
    figures = evaluate(classifier, setup.test).figures
    return Point(
        case=case,
        seed=seed,
        sparsity=sparsity,
        realised=classifier.keep_set.sparsity(classifier.geometry),
        recovery_steps=recovery_steps,
        accuracy=figures["accuracy"] or 0.0,
        loss=figures["loss"] or 0.0,
    )
