"""Uniform arms: the floor that a bandit has to beat."""

from dataclasses import dataclass

import numpy as np

from fedcore.assignment import Arm
from fedcore.protocols import ArmSpace, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomArm:
    """Draws sparsity and rank uniformly from the feasible space."""

    name: str = "random"

    def start(self) -> Json:
        """Return the empty state: nothing is learned."""
        return {}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return a uniform arm of `space`."""
        drawn = float(rng.uniform(space.sparsity_low, space.sparsity_high))
        sparsity = min(space.sparsity_high, max(space.sparsity_low, drawn))
        return Arm(sparsity=sparsity, rank=space.ranks[int(rng.integers(len(space.ranks)))])

    def observe(self, state: Json, arm: Arm, reward: float) -> Json:
        """Return `state` unchanged."""
        return state
