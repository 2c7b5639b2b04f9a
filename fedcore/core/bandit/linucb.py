"""LinUCB: a linear model of the reward in features of arm and device, and a bound on its uncertainty.

Li, Chu, Langford, Schapire, "A contextual-bandit approach to personalized news article recommendation", WWW 2010, arXiv
1003.0146, algorithm 1, with one model for all arms, and discounted (Russac, Vernade, Cappe, 2019, arXiv 1909.09146):

    A = ridge I + sum of discount^age x x^T,   b = sum of discount^age reward x,   theta = A^-1 b
    U(a) = theta^T x(a) + c sqrt(x(a)^T A^-1 x(a))

Features x(a): 1; sparsity, log2 rank and log2 steps as places on their axes (fedcore.core.bandit.lattice), and their
squares; and every number of the device's context, alone and times each place. The bandit selects the best arm of a
grid.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.bandit.lattice import best_of, grid, place
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import NO_STEPS, ArmSpace, Json
from fedcore.core.errors import ConfigError

RIDGE = 1.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinUcb:
    """The policy; its state is {"gram": sum of x x^T, "sums": sum of reward x}, both discounted, empty at first."""

    ranks: tuple[int, ...]  # ascending
    steps: tuple[int, ...] = NO_STEPS  # ascending
    discount: float = 0.98  # in (0, 1], per observation
    exploration: float = 0.1  # c >= 0
    name: str = "linucb"

    def __post_init__(self) -> None:
        if not (self.ranks and self.steps and 0 < self.discount <= 1 and self.exploration >= 0):
            raise ConfigError(
                f"linucb: expected ranks, steps, discount in (0, 1] and exploration >= 0; "
                f"got {self.ranks}, {self.steps}, {self.discount}, {self.exploration}"
            )

    def start(self) -> Json:
        """Return the state before any observation."""
        return {"gram": [], "sums": []}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return the arm of the grid over `space` with the highest bound; `rng` breaks ties."""
        arms = grid(space)
        features = np.array([self._features(arm, space.context) for arm in arms])  # (arms, features)
        gram, sums = _sums(state, features.shape[1])
        solved = np.linalg.solve(gram + RIDGE * np.eye(len(sums)), np.column_stack([sums, features.T]))
        variance = np.sum(features * solved[:, 1:].T, axis=1)  # (arms,), x^T A^-1 x
        return best_of(arms, features @ solved[:, 0] + self.exploration * np.sqrt(np.maximum(0.0, variance)), rng)

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return the state after `arm`, as realised, earned `reward` on a device of this context."""
        if not 0.0 <= reward <= 1.0:
            raise ConfigError(f"linucb: expected a reward in [0, 1], got {reward}")
        x = self._features(arm, context)
        gram, sums = _sums(state, len(x))
        return {
            "gram": (self.discount * gram + np.outer(x, x)).tolist(),
            "sums": (self.discount * sums + reward * x).tolist(),
        }

    def _features(self, arm: Arm, context: tuple[float, ...]) -> Floats:
        places = place(arm, self.ranks, self.steps)
        crossed = [value * factor for value in context for factor in (1.0, *places)]
        return np.array([1.0, *places, *(share**2 for share in places), *crossed])


def _sums(state: Json, size: int) -> tuple[Floats, Floats]:
    if not state["sums"]:
        return np.zeros((size, size)), np.zeros(size)
    return np.array(state["gram"], dtype=np.float64), np.array(state["sums"], dtype=np.float64)
