"""Uniform arms: the baseline that a bandit has to beat."""

from dataclasses import dataclass

import numpy as np

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.protocols import ArmSpace, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomArm:
    """Draws sparsity and rank, and steps where there is a choice of them, uniformly from the feasible space."""

    name: str = "random"

    def start(self) -> Json:
        """Return the empty state: nothing is learned."""
        return {}

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return a uniform arm of `space`."""
        draw = float(rng.uniform(space.sparsity_low, space.sparsity_high))
        sparsity = min(space.sparsity_high, max(space.sparsity_low, draw))
        rank = space.ranks[int(rng.integers(len(space.ranks)))]
        return Arm(sparsity=sparsity, rank=rank, steps=one_of(space.steps, rng))

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return `state` unchanged."""
        return state


def one_of(choices: tuple[int, ...], rng: np.random.Generator) -> int:
    """Return one of `choices`, uniformly; makes no draw where there is only one."""
    return choices[int(rng.integers(len(choices)))] if len(choices) > 1 else choices[0]
