"""Floors: what a result has to beat before it says anything, and the likely causes where it does not.

A floor is the headline figure of something that needs no fleet: one answer for every row, the untrained model, or words
alone (`fedcore.client.evaluation.bag_of_words`). The module is pure; where the figures come from is up to the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.figures import SHARE, Figure, Values
from fedcore.core.data.metrics import accuracy, macro_f1
from fedcore.core.errors import DataError

WORDS = "TF-IDF with logistic regression"
DEVIATIONS = 1.645  # of a share's standard error: a result at the floor exceeds it by more in one case of twenty
ONE_ANSWER = 0.95  # share of rows with one and the same answer from which a model is said to know no other
PRUNED_LOSS = 0.02  # from which the cut is named as a cause: of a share, else this part of the dense model's figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """What one guesser gets right on `rows` held-back rows: figures of the task by name."""

    figures: Values
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Floors of one set of held-back rows. `tfidf` is None where there were too few rows to learn from."""

    majority_label: str  # or the number, under a task without labels
    majority: Floor  # of answering it for every row
    tfidf: Floor | None = None
    tfidf_rows: int = 0  # that TF-IDF learned from; of a cross-validation, in one part of it
    cross_validated: bool = False  # over the held-back rows themselves

    def flat(self) -> dict[str, Any]:
        """Return the floors as ledger, events and summary hold them: the figures of each in one table with its rows."""
        return {
            "majority_label": self.majority_label,
            "majority": {**self.majority.figures, "rows": self.majority.rows},
            "tfidf": None if self.tfidf is None else {**self.tfidf.figures, "rows": self.tfidf.rows},
            "tfidf_rows": self.tfidf_rows,
            "cross_validated": self.cross_validated,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What is held against the floors: the headline figure of a model on held-back rows.

    `top_answer`, `top_share`: the label that it answers most often, and for which share of the rows; "" is unknown.
    """

    name: str
    value: float
    rows: int
    top_answer: str = ""
    top_share: float = 0.0
    pruned: bool = False


def floor_of(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> Floor:
    """Return the floor of predictions (rows,) against labels (rows,); raises DataError for no row."""
    return Floor(
        figures={"accuracy": accuracy(predicted, labels), "macro_f1": macro_f1(predicted, labels)}, rows=len(labels)
    )


def majority_floor(labels: NDArray[np.int64], answer: int) -> Floor:
    """Return the floor of giving label `answer` to every one of the rows with `labels` (rows,)."""
    return floor_of(np.full(len(labels), answer, dtype=np.int64), labels)


def beats(result: Result, floor: float, figure: Figure) -> bool:
    """Whether a result is better than a floor, by more than the sampling error of its rows where one is known."""
    if result.rows < 1:
        raise DataError(f"{result.name}: figures on {result.rows} rows; expected at least 1")
    return figure.exceeds(result.value, floor, DEVIATIONS * figure.error(floor, result.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What results are held against: `floors` by their words ("always answering 'spam'"), and the dense model.

    All floors but WORDS are blind guesses. `dense` is the figure of the same adapter on the model that was not cut.
    """

    figure: Figure
    floors: Mapping[str, float]
    dense: float | None = None

    def missed(self, result: Result) -> tuple[str, ...]:
        """Return the floors that a result does not beat."""
        return tuple(name for name, floor in self.floors.items() if not beats(result, floor, self.figure))

    def is_cut(self, group: Sequence[Result], missed: Sequence[str], rows: int) -> bool:
        """Whether the dense model beats one of the `missed` floors, and a pruned one does worse by far."""
        if self.dense is None:
            return False
        whole = Result(name="dense", value=self.dense, rows=rows)
        margin = PRUNED_LOSS * (1.0 if self.figure.unit == SHARE else abs(self.dense))
        above = any(beats(whole, self.floors[name], self.figure) for name in missed)
        return above and any(
            result.pruned and self.figure.exceeds(self.dense, result.value, margin) for result in group
        )

    def words_tell(self, rows: int) -> bool:
        """Whether words alone beat the blind guesses."""
        words = Result(name=WORDS, value=self.floors[WORDS], rows=rows)
        return all(beats(words, floor, self.figure) for name, floor in self.floors.items() if name != WORDS)


def doubts(results: Sequence[Result], against: Comparison) -> tuple[str, ...]:
    """Return one warning for all results that do not beat the same floors, with likely causes; nothing where all do."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        missed = against.missed(result)
        if missed:
            groups.setdefault(missed, []).append(result)
    return tuple(_doubt(group, missed, against) for missed, group in groups.items())


def _doubt(group: Sequence[Result], missed: Sequence[str], against: Comparison) -> str:
    figure, floors = against.figure, against.floors
    figures = ", ".join(f"{result.name} {figure.text(result.value)}" for result in group)
    beside = " or ".join(f"{name} ({figure.text(floors[name])})" for name in missed)
    rows = min(result.rows for result in group)
    text = f"{figure.title} of {figures} is no better than {beside}, allowing for chance on {rows} held-back rows"
    single = [result for result in group if result.top_answer and result.top_share >= ONE_ANSWER]
    for result in single:
        text += f"; {result.name} answers {result.top_answer!r} for {result.top_share:.0%} of the rows"
    return f"{text}. Likely causes: {'; '.join(_causes(group, missed, against, bool(single)))}"


def _causes(group: Sequence[Result], missed: Sequence[str], against: Comparison, single: bool) -> list[str]:
    """Return likely causes, the most telling first."""
    rows = min(result.rows for result in group)
    causes = []
    if against.dense is not None and against.is_cut(group, missed, rows):
        causes.append(
            f"the cut: the dense adapter has {against.figure.text(against.dense)} (lower strategy.target_sparsity, or "
            "more rounds after it)"
        )
    blind = any(name != WORDS for name in missed)
    if blind and WORDS in missed and not against.words_tell(rows):
        causes.append("the texts say little of the labels, words alone find nothing either (is data.label right?)")
    steps = "too few rounds or steps (run.rounds, training.local_steps)"
    rate = "a learning rate that is too high or too low (training.learning_rate)"
    skew = "label skew: devices that know few of the labels (data.partition, data.alpha, strategy.weights)"
    causes += [rate, skew, steps] if single else [steps, rate]
    if not blind:
        causes.append("texts cut short (model.max_length), or labels that words alone decide")
    return causes
