"""One cut model: cut at once or in steps, recovered with LoRA, with or without the dense model as a teacher."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from benchmarks.depth.cuts import cut_at, first_order, learned
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.surgery import shrink

CHUNKS = 5  # parts of the recovery: the teacher's share rises from part to part, and gradual cuts lie before the parts
WEIGHT, TEMPERATURE = 0.5, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How a model recovers; `steps` in all."""

    name: str
    steps: int
    distill: bool = False
    gradual: bool = False


class Bench(Protocol):
    """A dense model with adapters, and what is done with copies of it."""

    def fork(self) -> Classifier:
        """Return a copy of the dense model."""
        ...

    def scores(self, classifier: Classifier) -> GroupScores:
        """Return importances and influences of a model as it is cut now."""
        ...

    def tune(self, classifier: Classifier, *, steps: int, part: int, how: Distillation | None) -> None:
        """Train the adapters in place, under `how` with the dense model as the teacher."""
        ...

    def figures(self, classifier: Classifier) -> dict[str, float]:
        """Return the figures of merit on held-back rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One cut model."""

    way: str
    sparsity: float  # asked for
    realised: float
    layers: int  # that are left
    counts: tuple[int, int]  # heads and channels of each of them
    recovery: str
    figures: dict[str, float]


def recoveries(steps: int) -> tuple[Recovery, ...]:
    """Return the ways to recover, none first."""
    return (
        Recovery(name="none", steps=0),
        Recovery(name="lora", steps=steps),
        Recovery(name="lora+distill", steps=steps, distill=True),
        Recovery(name="gradual", steps=steps, gradual=True),
        Recovery(name="gradual+distill", steps=steps, gradual=True, distill=True),
    )


def points(
    bench: Bench, ways: Sequence[str], sparsities: Sequence[float], how: Sequence[Recovery], say: Callable[[str], None]
) -> Iterator[Point]:
    """Yield every cut model; all start from the same dense one, and from the same scores."""
    dense = bench.fork()
    yield _point(bench, dense, way="dense", sparsity=0.0, recovery="none")
    scores = bench.scores(dense)
    for way in ways:
        for sparsity in sparsities:
            for recovery in how:
                model = recovered(bench, scores, way, sparsity, recovery)
                point = _point(bench, model, way=way, sparsity=sparsity, recovery=recovery.name)
                say(f"{way} {sparsity:.0%} {recovery.name}: {point.figures}, {point.layers} layers of {point.counts}")
                yield point


def recovered(bench: Bench, scores: GroupScores, way: str, sparsity: float, recovery: Recovery) -> Classifier:
    """Return a copy of the dense model, cut and recovered."""
    model = bench.fork()
    order = learned(first_order(model, way), model, scores)
    for part in range(1, CHUNKS + 1):
        if part == 1 or recovery.gradual:
            if part > 1:
                order = learned(order, model, bench.scores(model))
            order, kept = cut_at(order, model, sparsity * part / CHUNKS if recovery.gradual else sparsity)
            shrink(model, kept)
        if recovery.steps:
            share = part / CHUNKS
            taught = Distillation(weight=WEIGHT, temperature=TEMPERATURE, mix=share) if recovery.distill else None
            bench.tune(model, steps=recovery.steps // CHUNKS, part=part, how=taught)
    return model


def _point(bench: Bench, model: Classifier, *, way: str, sparsity: float, recovery: str) -> Point:
    counts = model.keep_set.counts
    return Point(
        way=way,
        sparsity=sparsity,
        realised=model.keep_set.sparsity(model.geometry),
        layers=len(model.layers),
        counts=(counts.heads, counts.channels),
        recovery=recovery,
        figures=bench.figures(model),
    )
