"""Paired bootstrap over test rows and seeds: is one model better than another on the same rows?

Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13 (percentile interval). Every resample draws
rows with replacement, the same for both models and all seeds, and seeds with replacement, the same for both models.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
BLOCK = 500  # resamples at a time: memory is BLOCK x rows

Scores = NDArray[np.float64]  # (seeds, rows), each in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Mean of left - right, and the interval that holds it."""

    mean: float
    low: float
    high: float

    @property
    def claimed(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def paired_difference(left: Scores, right: Scores, *, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Return the difference of mean scores; row i and seed j mean the same in both. Raises ValueError otherwise."""
    if left.shape != right.shape or not left.size:
        raise ValueError(f"paired scores need equal shapes, got {left.shape} and {right.shape}")
    difference, rng = left - right, np.random.default_rng(seed)
    seeds, rows = difference.shape
    means: list[Scores] = []
    for begin in range(0, resamples, BLOCK):
        count = min(BLOCK, resamples - begin)
        by_seed = rng.multinomial(rows, np.full(rows, 1 / rows), size=count) @ difference.T / rows  # (count, seeds)
        drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
        means.append((by_seed * drawn).sum(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Difference(mean=float(difference.mean()), low=float(low), high=float(high))
