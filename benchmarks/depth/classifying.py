"""MiniLM on movie reviews: a dense model after a LoRA warm-up, and its cut copies."""

from dataclasses import dataclass, replace
from functools import partial

from benchmarks.criteria.setup import SPEC, Setup, fork
from benchmarks.depth.cuts import scored
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.seeds import derive_seed
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.evaluate import evaluate
from fedcore.nn.training.teacher import answers
from fedcore.nn.training.train import TrainingAids, train

RANK, WARM_UP, CALIBRATION = 8, 60, 4


@dataclass(slots=True, kw_only=True)
class Classifying:
    """`warm` is the dense, tuned model."""

    setup: Setup
    warm: Classifier
    seed: int

    @staticmethod
    def of(setup: Setup, *, seed: int, warm_up: int) -> "Classifying":
        """Return the bench with a model that was tuned for `warm_up` steps."""
        warm = setup.untrained(rank=RANK, seed=seed)
        setup.tune(warm, steps=warm_up, seed=seed, part="warm-up")
        return Classifying(setup=setup, warm=warm, seed=seed)

    def fork(self) -> Classifier:
        """Return a copy of the dense model."""
        return fork(self.warm)

    def scores(self, classifier: Classifier) -> GroupScores:
        """Return Taylor scores and influences on the calibration batches."""
        return scored(classifier, self.setup.batches(CALIBRATION, seed=self.seed), TaylorScorer().scores)

    def tune(self, classifier: Classifier, *, steps: int, part: int, how: Distillation | None) -> None:
        """Train the adapters and the head."""
        aids = TrainingAids(teacher=partial(answers, self.warm, batch_size=SPEC.batch_size) if how else None)
        spec, seed = replace(SPEC, distillation=how), derive_seed(self.seed, "recovery", part)
        train(classifier, self.setup.train, spec=spec, steps=steps, seed=seed, aids=aids)

    def figures(self, classifier: Classifier) -> dict[str, float]:
        """Return the accuracy and the loss on held-back rows."""
        found = evaluate(classifier, self.setup.test).figures
        return {name: float(found[name] or 0.0) for name in ("accuracy", "loss")}
