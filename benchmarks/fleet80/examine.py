"""Measuring while a simulation runs: the delivered model after every round, every model on all rows at the end."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fleet80.bits import packed
from benchmarks.fleet80.delivery import Share, delivered, held_sparsity, prunes
from fedcore.client.evaluation.model_evaluator import Predictions
from fedcore.core.config.tables import Config
from fedcore.core.data.metrics import measure
from fedcore.core.model.keep_set import KeepSet
from fedcore.simulation.rounds.evaluation import RunEvaluation

DENSE_EVERY = 5  # rounds: a pruning strategy's dense model is told too, but decides nothing
DIGITS = 6
FIGURES = ("accuracy", "auc", "loss")
NOTE = "fleet80/round-{}"

Figures = dict[str, float | None]


@dataclass(slots=True, kw_only=True)
class Examiner:
    """Keeps a round's figures in the run's ledger, where a resumed run finds them again."""

    config: Config  # resolved
    model: Path
    rows_per_round: int
    cuts: Sequence[float]
    say: Callable[[str], None]
    _judging: RunEvaluation | None = None

    def __call__(self, judging: RunEvaluation) -> None:
        """Measure the round that has just closed."""
        self._judging, engine = judging, judging.engine
        number = engine.model.adapter.round
        shares = self._shares(number)
        figures: dict[str, Any] = {"delivered": self._weighted(shares, self.rows_per_round)}
        whole = all(each.keep_set == self._dense for each in shares)
        if whole:
            figures["dense"] = figures["delivered"]
        elif number % DENSE_EVERY == 0:
            figures["dense"] = self._weighted([self._dense_share], self.rows_per_round)
        engine.ledger.note(NOTE.format(number), figures)
        told = figures["delivered"]
        self.say(
            f"round {number}/{self.config.run.rounds}: {self._judging.engine.clock():.0f} virtual s, "
            f"accuracy {told['accuracy']:.3f}, loss {told['loss']:.3f} at sparsity {told['sparsity']:.2f}"
        )

    def final(self) -> dict[str, Any]:
        """Measure the models on all held-back rows; the delivered ones have a share of the fleet above 0."""
        if not prunes(self.config):
            return {"dense": self._model(self._dense) | {"share": 1.0}}
        asked = {"dense": (self._dense, 0.0)}
        for each in self._shares(self.config.run.rounds):
            asked["+".join(each.classes)] = each.keep_set, each.share
        known = {keep_set.blob_id for keep_set, _ in asked.values()}
        for cut in self.cuts:
            most = max(self._cut(cut), key=lambda each: each.share)
            if most.keep_set.blob_id not in known:
                asked[f"cut-{cut:g}"] = most.keep_set, 0.0
        return {name: self._model(keep_set) | {"share": share} for name, (keep_set, share) in asked.items()}

    def _shares(self, number: int) -> list[Share]:
        if not prunes(self.config):
            return [self._dense_share]
        if number == self.config.run.rounds:
            return delivered(self.config, self.model, self._held.engine.state, None)
        return self._cut(held_sparsity(self._held.engine.ledger.outcomes()[number]))

    def _cut(self, sparsity: float) -> list[Share]:
        return delivered(self.config, self.model, self._held.engine.state, sparsity)

    @property
    def _held(self) -> RunEvaluation:
        if self._judging is None:
            raise RuntimeError("no round has closed in this process, so there is nothing to measure")
        return self._judging

    @property
    def _dense(self) -> KeepSet:
        return KeepSet.full(self._held.engine.strategy.spec.geometry)

    @property
    def _dense_share(self) -> Share:
        return Share(keep_set=self._dense, share=1.0, classes=())

    def _weighted(self, shares: Sequence[Share], rows: int) -> Figures:
        each = [(one.share, self._figures(self._answers(one.keep_set, rows), one.keep_set)) for one in shares]
        return {key: _mean([(share, figures[key]) for share, figures in each]) for key in (*FIGURES, "sparsity")}

    def _model(self, keep_set: KeepSet) -> dict[str, Any]:
        answers = self._answers(keep_set, 0)
        right = answers.logits.argmax(axis=1) == answers.labels
        return {
            **self._figures(answers, keep_set),
            "parameters": answers.parameters,
            "rows": len(right),
            "right": packed(np.asarray(right, dtype=np.bool_)),
        }

    def _answers(self, keep_set: KeepSet, rows: int) -> Predictions:
        judging = self._held
        scale = judging.engine.config.training.lora_scale
        return judging.evaluator.predict(dict(judging.engine.model.tensors), keep_set, rows, scale)

    def _figures(self, answers: Predictions, keep_set: KeepSet) -> Figures:
        metrics = measure(answers.logits, answers.labels)
        figures: Mapping[str, float | None] = {name: getattr(metrics, name) for name in FIGURES}
        sparsity = keep_set.sparsity(self._held.engine.strategy.spec.geometry)
        return {
            name: None if value is None else round(value, DIGITS)
            for name, value in {**figures, "sparsity": sparsity}.items()
        }


def _mean(weighted: Sequence[tuple[float, float | None]]) -> float | None:
    known = [(share, value) for share, value in weighted if value is not None]
    if len(known) < len(weighted):
        return None
    return round(sum(share * value for share, value in known) / sum(share for share, _ in known), DIGITS)
