"""The same arm always: the baseline without a bandit."""

from dataclasses import dataclass

import numpy as np

from fedcore.assignment import Arm
from fedcore.protocols import ArmSpace, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedArm:
    """Wants one sparsity and one rank; where they are infeasible, the nearest sparsity and the next lower rank."""

    sparsity: float
    rank: int
    name: str = "fixed"

    def __post_init__(self) -> None:
        Arm(sparsity=self.sparsity, rank=self.rank)  # raises ConfigError where out of range

    def start(self) -> Json:
        """Return the empty state: nothing is learned."""
        return {}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return the wanted arm clamped into `space`; the lowest rank where all feasible ones are higher."""
        sparsity = min(space.sparsity_high, max(space.sparsity_low, self.sparsity))
        return Arm(sparsity=sparsity, rank=max((r for r in space.ranks if r <= self.rank), default=min(space.ranks)))

    def observe(self, state: Json, arm: Arm, reward: float) -> Json:
        """Return `state` unchanged."""
        return state
