"""How well answers follow targets: Pearson's and Spearman's correlation, in NumPy.

Shapes: answers and targets (rows,), any finite numbers. A correlation with targets that are all the same is not
defined, and is None. Answers that are all the same say nothing of the targets: their correlation is taken as 0, so that
a model that answers one number for every row can be compared with any other.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedcore.core.data.metrics import mid_ranks

Floats = NDArray[np.float64]


def pearson(answers: ArrayLike, targets: ArrayLike) -> float | None:
    """Return the linear correlation, in [-1, 1]; None where all targets are the same."""
    guess, truth = _centred(answers), _centred(targets)
    if not truth.any():
        return None
    if not guess.any():
        return 0.0
    cosine = float(guess @ truth / (np.linalg.norm(guess) * np.linalg.norm(truth)))
    return min(1.0, max(-1.0, cosine))


def spearman(answers: ArrayLike, targets: ArrayLike) -> float | None:
    """Return the correlation of ranks, in [-1, 1]; equal values share the mean of their ranks; None as `pearson`."""
    return pearson(mid_ranks(np.asarray(answers, dtype=np.float64)), mid_ranks(np.asarray(targets, dtype=np.float64)))


def _centred(values: ArrayLike) -> Floats:
    """Return values less their mean, exactly 0 where all are the same, at most 1 in size."""
    numbers: Floats = np.asarray(values, dtype=np.float64)
    if numbers.size == 0 or numbers.min() == numbers.max():
        return np.zeros_like(numbers)
    apart = numbers - numbers.mean()
    scaled: Floats = apart / np.abs(apart).max()
    return scaled
