"""Classification metrics on logits and labels, in NumPy.

Shapes: logits (rows, classes), labels (rows,) integers in [0, classes). Every function raises DataError for
zero rows or lengths that differ.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcore.core.data.figures import Metrics
from fedcore.core.errors import DataError

Floats = NDArray[np.float64]


def measure(logits: ArrayLike, labels: ArrayLike) -> Metrics:
    """Return every metric of `logits` (rows, classes) against `labels` (rows,).

    The AUC is None unless there are two classes and both occur; it ranks rows by the log-odds of class 1, which orders
    them as the softmax does, without its rounding. The loss is the mean cross-entropy in nats.
    """
    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    predicted = values.argmax(axis=1)
    auc = roc_auc(values[:, 1] - values[:, 0], truth) if values.shape[1] == 2 else None
    return Metrics(
        figures={
            "accuracy": accuracy(predicted, truth),
            "auc": auc,
            "macro_f1": macro_f1(predicted, truth),
            "loss": cross_entropy(values, truth),
        },
        rows=len(truth),
        answers=tuple(np.bincount(predicted, minlength=values.shape[1]).tolist()),
    )


def accuracy(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the share of rows whose predicted class is the label, in [0, 1]."""
    guess, truth = np.asarray(predicted), np.asarray(labels)
    _check(guess, truth)
    return float(np.mean(guess == truth))


def roc_auc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Return the probability that a row of class 1 scores above one of class 0; a tie counts one half.

    The Mann-Whitney form of the area under the ROC curve. `scores` (rows,) any real numbers, `labels` (rows,) of
    0 and 1. None where one of the classes is absent, since the area is not defined then.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    _check(values, truth)
    positives = int(np.sum(truth == 1))
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return None
    rank_sum = float(mid_ranks(values)[truth == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def macro_f1(predicted: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean F1 of the classes that occur in `predicted` or `labels`, in [0, 1]."""
    guess, truth = np.asarray(predicted), np.asarray(labels)
    _check(guess, truth)
    scores = []
    for label in np.union1d(guess, truth):
        hits = int(np.sum((guess == label) & (truth == label)))
        scores.append(2 * hits / int(np.sum(guess == label) + np.sum(truth == label)))
    return float(np.mean(scores))


def log_softmax(logits: ArrayLike) -> Floats:
    """Return log probabilities (rows, classes), without overflow for large logits."""
    values = np.asarray(logits, dtype=np.float64)
    shifted: Floats = values - values.max(axis=-1, keepdims=True)
    normaliser: Floats = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted - normaliser


def softmax(logits: ArrayLike) -> Floats:
    """Return probabilities (rows, classes); each row sums to 1."""
    return np.exp(log_softmax(logits))


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> float:
    """Return the mean of -log p(label), in nats, >= 0."""
    values, truth = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    _check(values, truth)
    return float(-log_softmax(values)[np.arange(len(truth)), truth].mean())


def mid_ranks(values: Floats) -> Floats:
    """Return 1-based ranks; equal values share the mean of their ranks."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return (last - (sizes - 1) / 2)[group]


def _check(values: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    if len(labels) == 0 or len(values) != len(labels):
        raise DataError(f"metrics need as many predictions as labels, at least one; got {len(values)}, {len(labels)}")
