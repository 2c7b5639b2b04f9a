"""Smooth UCB: S-UCB's bound with kernel-smoothed means and counts in place of a tree.

A tree has to split before it can tell arms apart, and each split halves the counts. Here every observation also counts
for the arms near it (the kernel estimators of Kleinberg's and Bubeck's Lipschitz bandits; the
form is ours):

    N(a) = sum over seen cells of K(a, cell) N_cell,   mu(a) = sum of K(a, cell) reward sum_cell / N(a)
    U(a) = mu(a) + c sqrt(2 ln(1 + sum of all N) / N(a)),   K(a, b) = exp(-|a - b|^2 / (2 BANDWIDTH^2))

with distances between places on the axes (fedcore.core.bandit.lattice) and discounted counts. Arms with no observation
near them come first. The bandit selects the best arm of a grid over the space. A cell is a sparsity, rounded to CELL,
with a rank and steps; it is dropped once its discounted count falls below FORGOTTEN.
"""

import math
from dataclasses import dataclass

import numpy as np

from fedcore.core.bandit.lattice import best_of, grid, place
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Json
from fedcore.core.errors import ConfigError

BANDWIDTH = 0.3  # share of an axis
CELL = 0.02  # of sparsity
UNSEEN = 1e-3  # an arm with at most this count is unseen
FORGOTTEN = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothUcb:
    """The policy; its state is {"cells": [[sparsity, rank, steps, count, reward sum], ...]}, discounted."""

    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending
    discount: float = 0.98  # in (0, 1], per observation
    exploration: float = 0.1  # c >= 0
    name: str = "smooth-ucb"

    def __post_init__(self) -> None:
        if not (self.ranks and self.steps and 0 < self.discount <= 1 and self.exploration >= 0):
            raise ConfigError(
                f"smooth-ucb: expected ranks, steps, discount in (0, 1] and exploration >= 0; "
                f"got {self.ranks}, {self.steps}, {self.discount}, {self.exploration}"
            )

    def start(self) -> Json:
        """Return the state before any observation."""
        return {"cells": []}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return the arm of the grid over `space` with the highest bound; `rng` breaks ties."""
        arms, cells = grid(space), state["cells"]
        if not cells:
            return best_of(arms, np.zeros(len(arms)), rng)
        places = np.array([place(arm, self.ranks, self.steps) for arm in arms])
        cell_places = np.array([self._place(cell) for cell in cells])  # (cells, 3)
        counts, totals = np.array([cell[3:] for cell in cells], dtype=np.float64).T
        kernel = np.exp(-np.sum((places[:, None] - cell_places) ** 2, axis=2) / (2 * BANDWIDTH**2))  # (arms, cells)
        smoothed = np.maximum(kernel @ counts, 1e-12)  # (arms,)
        spread = 2 * math.log1p(float(counts.sum()))
        bounds = kernel @ totals / smoothed + self.exploration * np.sqrt(spread / smoothed)
        return best_of(arms, np.where(smoothed <= UNSEEN, np.inf, bounds), rng)

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return the state after `arm`, as realised, earned `reward`; the context is not used."""
        if not 0.0 <= reward <= 1.0:
            raise ConfigError(f"smooth-ucb: expected a reward in [0, 1], got {reward}")
        key = [round(round(arm.sparsity / CELL) * CELL, 6), arm.rank, arm.steps]
        faded = [[*cell[:3], cell[3] * self.discount, cell[4] * self.discount] for cell in state["cells"]]
        other_cells = [cell for cell in faded if cell[:3] != key and cell[3] > FORGOTTEN]
        before = next((cell for cell in faded if cell[:3] == key), [*key, 0.0, 0.0])
        return {"cells": [*other_cells, [*key, before[3] + 1.0, before[4] + reward]]}

    def _place(self, cell: list[float]) -> tuple[float, float, float]:
        return place(Arm(sparsity=min(cell[0], 0.999), rank=int(cell[1]), steps=int(cell[2])), self.ranks, self.steps)
