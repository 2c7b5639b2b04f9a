from dataclasses import dataclass, field

import numpy as np
import pytest

from benchmarks.criteria.setup import fork
from benchmarks.depth.trial import CHUNKS, points, recovered, recoveries
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach
from tests.tiny_classifiers import tiny_classifier

BY_NAME = {recovery.name: recovery for recovery in recoveries(10)}


@dataclass
class Bench:
    """A tiny model whose scores are the same for all groups, and what was asked of it."""

    dense: Classifier
    tunes: list[tuple[int, int, Distillation | None]] = field(default_factory=list)
    scorings: int = 0

    def fork(self) -> Classifier:
        return fork(self.dense)

    def scores(self, classifier: Classifier) -> GroupScores:
        self.scorings += 1
        heads, channels, _ = classifier.keep_set.counts
        layers = len(classifier.layers)
        return GroupScores(
            heads=tuple(np.ones(heads) for _ in range(layers)),
            channels=tuple(np.ones(channels) for _ in range(layers)),
            layers=np.ones(layers),
        )

    def tune(self, classifier: Classifier, *, steps: int, part: int, how: Distillation | None) -> None:
        self.tunes.append((steps, part, how))

    def figures(self, classifier: Classifier) -> dict[str, float]:
        return {"accuracy": 0.5}


@pytest.fixture
def bench() -> Bench:
    classifier = tiny_classifier("bert")
    attach(classifier, rank=2, scale=1.0, targets=classifier.geometry.modules)
    return Bench(dense=classifier)


def test_the_dense_model_comes_first_and_every_cut_after_it(bench: Bench) -> None:
    found = list(points(bench, ["width", "depth"], [0.5], [BY_NAME["none"]], lambda _: None))
    assert [(point.way, point.sparsity) for point in found] == [("dense", 0.0), ("width", 0.5), ("depth", 0.5)]
    assert [point.layers for point in found] == [2, 2, 1]
    assert found[0].realised == 0 and found[1].realised == pytest.approx(0.5, abs=0.2)
    assert bench.scorings == 1 and not bench.tunes


def test_a_gradual_cut_scores_again_and_deepens_before_every_part(bench: Bench) -> None:
    model = recovered(bench, bench.scores(bench.dense), "width", 0.5, BY_NAME["gradual+distill"])
    assert bench.scorings == 1 + CHUNKS - 1
    assert [(steps, part) for steps, part, _ in bench.tunes] == [(2, part) for part in range(1, CHUNKS + 1)]
    assert [how.mix for _, _, how in bench.tunes if how] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert model.keep_set.sparsity(model.geometry) == pytest.approx(0.5, abs=0.2)


def test_a_cut_at_once_is_recovered_without_a_teacher(bench: Bench) -> None:
    recovered(bench, bench.scores(bench.dense), "width", 0.5, BY_NAME["lora"])
    assert bench.scorings == 1 and [how for *_, how in bench.tunes] == [None] * CHUNKS
