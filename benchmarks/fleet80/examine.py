"""Measurements during a simulation: the delivered model after every round, and every model on all rows at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleet80.bits import packed
from benchmarks.fleet80.cases.tracks import Track
from benchmarks.fleet80.delivery import Share, current_sparsity, delivered, prunes
from benchmarks.fleet80.measured import measured
from fedcore.client.evaluation.model_evaluator import Predictions
from fedcore.core.config.tables import Config
from fedcore.core.model.keep_set import KeepSet
from fedcore.simulation.rounds.evaluation import RunEvaluation

DENSE_EVERY = 5  # rounds: the dense model of a pruning strategy is reported too, but decides nothing
DIGITS = 6
ROW_DIGITS = 3  # of a row's loss
NOTE = "fleet80/round-{}"

Figures = dict[str, float | None]


@dataclass(slots=True, kw_only=True)
class Examiner:
    """Measures every round and keeps the figures in the run's ledger, from which a resumed run reads them."""

    config: Config  # resolved
    model: Path
    track: Track
    say: Callable[[str], None]
    _last: RunEvaluation | None = None

    def __call__(self, evaluation: RunEvaluation) -> None:
        """Measure the round that has just closed."""
        self._last, engine = evaluation, evaluation.engine
        number = engine.model.adapter.round
        shares = self._shares(number)
        figures: dict[str, Any] = {"delivered": self._weighted(shares, self.track.rows_per_round)}
        whole = all(share.keep_set == self._dense for share in shares)
        if whole:
            figures["dense"] = figures["delivered"]
        elif number % DENSE_EVERY == 0:
            figures["dense"] = self._weighted([self._dense_share], self.track.rows_per_round)
        engine.ledger.note(NOTE.format(number), figures)
        delivered_figures = figures["delivered"]
        self.say(
            f"round {number}/{self.config.run.rounds}: {engine.clock():.0f} virtual s, "
            f"{self._headline(delivered_figures)}, loss {delivered_figures['loss']:.3f} "
            f"at sparsity {delivered_figures['sparsity']:.2f}"
        )

    def final(self) -> dict[str, Any]:
        """Measure the models on all held-back rows; a delivered model has a share of the fleet above 0."""
        if not prunes(self.config):
            return {"dense": self._model(self._dense) | {"share": 1.0}}
        models = {"dense": (self._dense, 0.0)}
        for share in self._shares(self.config.run.rounds):
            models["+".join(share.classes)] = share.keep_set, share.share
        known = {keep_set.blob_id for keep_set, _ in models.values()}
        for cut in self.track.cuts:
            most = max(self._cut(cut), key=lambda share: share.share)
            if most.keep_set.blob_id not in known:
                models[f"cut-{cut:g}"] = most.keep_set, 0.0
        return {name: self._model(keep_set) | {"share": share} for name, (keep_set, share) in models.items()}

    def _shares(self, number: int) -> list[Share]:
        if not prunes(self.config):
            return [self._dense_share]
        if number == self.config.run.rounds:
            return delivered(self.config, self.model, self._evaluation.engine.state, None)
        return self._cut(current_sparsity(self._evaluation.engine.ledger.outcomes()[number]))

    def _cut(self, sparsity: float) -> list[Share]:
        return delivered(self.config, self.model, self._evaluation.engine.state, sparsity)

    @property
    def _evaluation(self) -> RunEvaluation:
        if self._last is None:
            raise RuntimeError("no round has closed in this process, so there is nothing to measure")
        return self._last

    @property
    def _dense(self) -> KeepSet:
        return KeepSet.full(self._evaluation.engine.strategy.spec.geometry)

    @property
    def _dense_share(self) -> Share:
        return Share(keep_set=self._dense, share=1.0, classes=())

    def _weighted(self, shares: Sequence[Share], rows: int) -> Figures:
        weighted = [
            (share.share, self._figures(self._answers(share.keep_set, rows), share.keep_set)) for share in shares
        ]
        names = (*self.track.figures, "sparsity")
        return {key: _mean([(share, figures[key]) for share, figures in weighted]) for key in names}

    def _model(self, keep_set: KeepSet) -> dict[str, Any]:
        answers = self._answers(keep_set, 0)
        found = measured(self._evaluation.evaluator.task, answers)
        losses = {"losses": [round(loss, ROW_DIGITS) for loss in found.losses]} if found.losses else {}
        return {
            **self._figures(answers, keep_set),
            "parameters": answers.parameters,
            "rows": len(found.right),
            "right": packed(found.right),
            **losses,
        }

    def _headline(self, figures: Figures) -> str:
        known = [(goal, value) for goal in self.track.goals if (value := figures[goal.figure]) is not None]
        return ", ".join(f"{goal.title} {goal.text(value)}{' %' if goal.share else ''}" for goal, value in known)

    def _answers(self, keep_set: KeepSet, rows: int) -> Predictions:
        evaluation = self._evaluation
        scale = evaluation.engine.config.training.lora_scale
        return evaluation.evaluator.predict(dict(evaluation.engine.model.tensors), keep_set, rows, scale)

    def _figures(self, answers: Predictions, keep_set: KeepSet) -> Figures:
        known = measured(self._evaluation.evaluator.task, answers).figures
        figures = {name: known.get(name) for name in self.track.figures}
        sparsity = keep_set.sparsity(self._evaluation.engine.strategy.spec.geometry)
        return {
            name: None if value is None else round(value, DIGITS)
            for name, value in {**figures, "sparsity": sparsity}.items()
        }


def _mean(weighted: Sequence[tuple[float, float | None]]) -> float | None:
    values = [(share, value) for share, value in weighted if value is not None]
    if len(values) < len(weighted):
        return None
    return round(sum(share * value for share, value in values) / sum(share for share, _ in values), DIGITS)
