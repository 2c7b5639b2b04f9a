"""Error feedback: the loss of a lossy codec in one update is added to the next.

With increment x, residual e and codec C a device sends C(x + e) and keeps

    e' = (x + e) - decode(C(x + e))

so that the sum of all that was sent, plus the residual, is the sum of all increments, up to float32 rounding.
Seide et al. 2014 (1-bit SGD); Karimireddy et al. 2019, "Error Feedback Fixes SignSGD" (arXiv 1901.09847), algorithm 2.

A residual is valid only in the coordinates in which it was measured. `carried` returns the tensors with unchanged
coordinates; other tensors are dropped, never converted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinates:
    """The meaning of an update's rows, columns and components; `basis` names the factors' decomposition."""

    basis: str
    rank: int
    keep_set: KeepSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """The part of the increments that has not been sent yet, float32 by tensor name."""

    at: Coordinates
    tensors: Tensors = field(default_factory=dict)


def carried(
    residual: Residual | None, increment: Tensors, now: Coordinates, geometry: Geometry
) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of `residual` that have a tensor in `increment`, measured at `now`, with equal coordinates.

    The task head always has equal coordinates. A factor has them where basis and rank are the same and, on the side
    that pruning cuts, the kept groups.
    """
    residuals = {} if residual is None else residual.tensors
    return {
        name: residuals[name]
        for name, value in increment.items()
        if residual is not None
        and name in residuals
        and residuals[name].shape == value.shape
        and _persists(name, residual.at, now, geometry)
    }


def waiting(
    residual: Residual | None, increment: Tensors, now: Coordinates, geometry: Geometry
) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of `residual` with equal coordinates and no tensor in `increment`: those frozen this round."""
    return {
        name: value
        for name, value in ({} if residual is None else residual.tensors).items()
        if residual is not None and name not in increment and _persists(name, residual.at, now, geometry)
    }


def compensated(increment: Tensors, residual: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return x + e; a tensor without a residual stays as it is."""
    return {name: value + residual[name] if name in residual else value for name, value in increment.items()}


def left_over(target: Tensors, decoded: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return e' of every tensor of `target` = x + e, except those that are not finite, which would spoil later ones."""
    with np.errstate(invalid="ignore", over="ignore"):
        losses = {name: target[name] - decoded[name] for name in target}
    return {name: value for name, value in losses.items() if np.isfinite(value).all()}


def _persists(name: str, before: Coordinates, now: Coordinates, geometry: Geometry) -> bool:
    if not name.startswith("layers."):
        return True
    if (before.basis, before.rank) != (now.basis, now.rank):
        return False
    _, layer, module, factor = name.split(".")
    cut = geometry.cut(module)
    if cut is None or cut.side != ("in" if factor == "A" else "out"):
        return True
    old, new = (
        coordinates.keep_set.heads if cut.unit == "head" else coordinates.keep_set.channels
        for coordinates in (before, now)
    )
    return len(old) == len(new) and old[int(layer)] == new[int(layer)]
