"""A model's predictions as the figures of a track, and row by row: paired comparisons need every row, not the mean."""

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.fleet80.bits import Right
from fedcore.client.evaluation.model_evaluator import Predictions
from fedcore.client.evaluation.written_answers import answer_figures, exact_matches
from fedcore.core.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures by name; which rows are right, of a model that writes those that it answered; and every row's loss.

    `losses`, of a model that writes, have the loss as their mean: the sum over a row's answered tokens, divided by the
    mean number of them. Empty for a classifier.
    """

    figures: dict[str, float | None]
    right: Right
    losses: tuple[float, ...] = ()


def measured(task: Task, predictions: Predictions) -> Measured:
    """Return what `predictions` are worth."""
    figures = dict(task.measure(predictions.logits, predictions.labels).figures)
    written = predictions.written
    if written is None:
        return Measured(figures=figures, right=predictions.logits.argmax(axis=1) == predictions.labels)
    outputs = predictions.logits.astype(np.float64)
    perplexity = figures["perplexity"]
    figures["loss"] = None if perplexity is None else math.log(perplexity)
    figures.update(answer_figures(written.answers, written.references))
    return Measured(
        figures=figures,
        right=np.array(exact_matches(written.answers, written.references), dtype=np.bool_),
        losses=tuple((outputs[:, 0] / outputs[:, 1].mean()).tolist()),
    )
