"""Arms as points: a grid over a space, and where an arm lies on its axes."""

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace

SPARSITIES = 5  # of a grid, ends included


def grid(space: ArmSpace) -> list[Arm]:
    """Return a grid of arms that covers `space`, corners included."""
    low, high = space.sparsity_low, space.sparsity_high
    sparsities = [low] if low == high else [*np.linspace(low, high, SPARSITIES)[:-1].tolist(), high]
    return [
        Arm(sparsity=sparsity, rank=rank, steps=steps)
        for sparsity, rank, steps in itertools.product(sparsities, space.ranks, space.steps)
    ]


def place(arm: Arm, ranks: tuple[int, ...], steps: tuple[int, ...]) -> tuple[float, float, float]:
    """Return sparsity, log2 rank and log2 steps, the last two as shares of their axes; 0 on an axis of one value."""
    return arm.sparsity, _share(ranks, arm.rank), _share(steps, arm.steps)


def best_of(arms: list[Arm], bounds: NDArray[np.float64], rng: np.random.Generator) -> Arm:
    """Return the arm with the highest bound; `rng` breaks ties."""
    best = np.flatnonzero(bounds >= bounds.max() - 1e-12)
    return arms[int(best[int(rng.integers(len(best)))])]


def _share(axis: tuple[int, ...], value: int) -> float:
    return math.log2(value / axis[0]) / math.log2(axis[-1] / axis[0]) if len(axis) > 1 else 0.0
