"""Error feedback: what a lossy codec lost of one update is added to the next.

With increment x, residual e and codec C a device sends C(x + e) and keeps

    e' = (x + e) - decode(C(x + e))

so that the sum of what was sent and what is kept is the sum of all increments, up to float32 rounding.
Seide et al. 2014 (1-bit SGD); Karimireddy et al. 2019, "Error Feedback Fixes SignSGD" (arXiv 1901.09847), algorithm 2.

A residual has a meaning only in the coordinates it was measured in. `carried` gives back the tensors for which these
have not changed; others are dropped, never moved.
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
    """What an update's rows, columns and components stand for; `basis` names the factors' decomposition."""

    basis: str
    rank: int
    keep_set: KeepSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What has not been sent yet, float32 by tensor name."""

    at: Coordinates
    tensors: Tensors = field(default_factory=dict)


def carried(
    residual: Residual | None, increment: Tensors, now: Coordinates, geometry: Geometry
) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of `residual` that belong to one of `increment`, measured at `now`, in equal coordinates.

    The task head's always are; a factor's where basis and rank are the same and, on the side that pruning cuts, the
    groups kept.
    """
    held = {} if residual is None else residual.tensors
    return {
        name: held[name]
        for name, value in increment.items()
        if residual is not None
        and name in held
        and held[name].shape == value.shape
        and _persists(name, residual.at, now, geometry)
    }


def waiting(
    residual: Residual | None, increment: Tensors, now: Coordinates, geometry: Geometry
) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of `residual` that keep their meaning and have no part in `increment`: frozen this round."""
    return {
        name: value
        for name, value in ({} if residual is None else residual.tensors).items()
        if residual is not None and name not in increment and _persists(name, residual.at, now, geometry)
    }


def compensated(increment: Tensors, residual: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return x + e; a tensor without a residual stays as it is."""
    return {name: value + residual[name] if name in residual else value for name, value in increment.items()}


def left_over(sent: Tensors, decoded: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return e' of every tensor; one that is not finite is left out, or it would spoil every later update."""
    with np.errstate(invalid="ignore", over="ignore"):
        lost = {name: sent[name] - decoded[name] for name in sent}
    return {name: value for name, value in lost.items() if np.isfinite(value).all()}


def _persists(name: str, before: Coordinates, now: Coordinates, geometry: Geometry) -> bool:
    if not name.startswith("layers."):
        return True
    if (before.basis, before.rank) != (now.basis, now.rank):
        return False
    _, layer, module, factor = name.split(".")
    cut = geometry.cut(module)
    if cut is None or cut.side != ("in" if factor == "A" else "out"):
        return True
    old, new = (each.keep_set.heads if cut.unit == "head" else each.keep_set.channels for each in (before, now))
    return len(old) == len(new) and old[int(layer)] == new[int(layer)]
