"""One number per group that a criterion carries from round to round."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.geometry import Geometry


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupState:
    """Numbers per group in dense coordinates, so that they outlive surgery and its undoing."""

    heads: NDArray[np.float32]  # (layers, head units)
    channels: NDArray[np.float32]  # (layers, ffn)

    @staticmethod
    def full(geometry: Geometry, value: float = 0.0) -> "GroupState":
        """Return the same number for every group."""
        return GroupState(
            heads=np.full((geometry.layers, geometry.head_units), value, dtype=np.float32),
            channels=np.full((geometry.layers, geometry.ffn), value, dtype=np.float32),
        )
