"""Paired bootstrap over test rows and seeds: is one model better than another on the same rows?

Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13 (percentile interval). Every resample draws
rows with replacement, the same for both models and all seeds, and seeds with replacement, the same for both models.
"""

from dataclasses import dataclass
from functools import lru_cache

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
    difference = left - right
    seeds, rows = difference.shape
    means: list[Scores] = []
    for of_rows, of_seeds in _draws(rows, seeds, resamples, seed):
        by_seed = of_rows @ difference.T / rows  # (BLOCK, seeds)
        means.append((by_seed * of_seeds / seeds).sum(axis=1))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Difference(mean=float(difference.mean()), low=float(low), high=float(high))


@lru_cache(maxsize=4)
def _draws(rows: int, seeds: int, resamples: int, seed: int) -> list[tuple[NDArray[np.uint16], NDArray[np.int64]]]:
    """Return how often every resample draws each row and each seed, in blocks: the same for all pairs of models."""
    rng, blocks = np.random.default_rng(seed), []
    for begin in range(0, resamples, BLOCK):
        count = min(BLOCK, resamples - begin)
        of_rows = rng.multinomial(rows, np.full(rows, 1 / rows), size=count)
        of_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=count)
        blocks.append((of_rows.astype(np.uint16), of_seeds))  # the smallest kind that holds every count below 65,536
    return blocks
