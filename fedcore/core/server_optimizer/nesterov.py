"""Outer Nesterov momentum over the rounds' mean increments, the server's half of DiLoCo.

    v' = mu v + d          A' = A + eta (mu v' + d)

d, the round's mean increment, is minus the pseudo-gradient of Douillard et al., "DiLoCo: distributed low-communication
training of language models", 2023, arXiv 2311.08105, algorithm 1; the step is `torch.optim.SGD`'s with nesterov=True.
Elementwise in float64 on the finished mean, v kept in float32: equal means give equal bits, whatever the tree of edges.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import Tensors

_BLOCK_VALUES = 1 << 14  # the float64 copies of a block stay in the cache

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Nesterov:
    """`lr` is eta, the outer learning rate, `momentum` mu, in [0, 1)."""

    lr: float = 0.7
    momentum: float = 0.9
    name: str = "nesterov"

    def step(self, before: Tensors, after: Arrays, velocity: Tensors | None) -> tuple[Arrays, Arrays]:
        """Return the next adapter, written over `after` = before + d, and v'; a `velocity` of None is zero."""
        next_velocity: Arrays = {}
        for name in after:
            value = after[name] = np.asarray(after[name], order="C")
            velocity_values = (
                np.zeros(value.shape, np.float32) if velocity is None else np.array(velocity[name], np.float32)
            )
            self._move(before[name].reshape(-1), value.reshape(-1), velocity_values.reshape(-1))
            next_velocity[name] = velocity_values
        return after, next_velocity

    def _move(self, before: NDArray[np.float32], after: NDArray[np.float32], velocity: NDArray[np.float32]) -> None:
        for start in range(0, after.size, _BLOCK_VALUES):
            block = slice(start, start + _BLOCK_VALUES)
            origin = before[block].astype(np.float64)
            increment = after[block] - origin
            velocity[block] = self.momentum * velocity[block].astype(np.float64) + increment
            increment += self.momentum * velocity[block].astype(np.float64)
            after[block] = origin + self.lr * increment
