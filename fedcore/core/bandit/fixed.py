"""Always the same arm: the baseline without a bandit."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedArm:
    """Selects one arm; where it is infeasible, the nearest sparsity and the next lower rank and steps."""

    sparsity: float
    rank: int
    steps: int = 0
    name: str = "fixed"

    def __post_init__(self) -> None:
        Arm(sparsity=self.sparsity, rank=self.rank, steps=self.steps)  # raises ConfigError where out of range

    def start(self) -> Json:
        """Return the empty state: nothing is learned."""
        return {}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return the arm clamped into `space`; the lowest rank or steps where all feasible ones are higher."""
        return Arm(
            sparsity=min(space.sparsity_high, max(space.sparsity_low, self.sparsity)),
            rank=_at_most(self.rank, space.ranks),
            steps=_at_most(self.steps, space.steps),
        )

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return `state` unchanged."""
        return state


def _at_most(limit: int, choices: tuple[int, ...]) -> int:
    """Return the largest of ascending `choices` up to the limit, or the smallest where all are larger."""
    return choices[max(0, bisect_right(choices, limit) - 1)]
