"""Adam's moments as portable values, and how they follow a cut or a change of rank.

Names are the adapter's canonical ones. Moments are those of the *local* parameters in device coordinates (B
without the LoRA scale, which is one constant of the run and so never changes their meaning).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet

BETAS = (0.9, 0.999)  # Adam's decay rates, fixed for all devices

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Adam's state of one parameter: running means of g and g*g (uncorrected), and steps taken."""

    first: Floats
    second: Floats
    step: int


Moments = Mapping[str, Moment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A device's part of the adapter: a keep-set and a rank."""

    keep_set: KeepSet
    rank: int


def follow(moments: Moments, geometry: Geometry, *, before: Holding, after: Holding) -> dict[str, Moment]:
    """Return the moments of `before`, moved to the coordinates of `after`.

    Rows, columns and rank components held in both keep their moments; what is new starts at zero. Adam keeps one
    step count per tensor, and a fresh component under an old count would be taken for one with a long history of
    zero gradients: its first steps would be up to three times too long. So a tensor that gained something is
    rewound: its count becomes 1 and its old moments are rescaled to the same bias-corrected values, which then
    weigh as much as one step. A tensor that only lost components keeps its count. Those of removed layers are dropped.
    """
    return {
        name: _follow_one(name, moment, geometry, before, after)
        for name, moment in moments.items()
        if not name.startswith("layers.") or int(name.split(".")[1]) in after.keep_set.layers
    }


def _follow_one(name: str, moment: Moment, geometry: Geometry, before: Holding, after: Holding) -> Moment:
    if not name.startswith("layers."):
        return moment
    _, layer, module, factor = name.split(".")
    ranks = _rank_axis(before, after)
    cut = _cut_axis(geometry, int(layer), module, "in" if factor == "A" else "out", before, after)
    wide = np.arange(moment.first.shape[1 if factor == "A" else 0]) if cut is None else cut
    rows, columns = (ranks, wide) if factor == "A" else (wide, ranks)
    first, second = _moved(moment.first, rows, columns), _moved(moment.second, rows, columns)
    gained = moment.step > 1 and bool((rows < 0).any() or (columns < 0).any())
    return _rewound(first, second, moment.step) if gained else Moment(first=first, second=second, step=moment.step)


def _rank_axis(before: Holding, after: Holding) -> NDArray[np.int64]:
    """Return, for every new rank component, its old position or -1."""
    positions = np.arange(after.rank)
    return np.where(positions < before.rank, positions, -1)


def _cut_axis(
    geometry: Geometry, layer: int, module: str, side: str, before: Holding, after: Holding
) -> NDArray[np.int64] | None:
    """Return, for every new row or column, its old position or -1; None where pruning leaves the axis whole."""
    cut = geometry.cut(module)
    if cut is None or cut.side != side:
        return None
    old = before.keep_set.indices(geometry, layer, module)
    new = after.keep_set.indices(geometry, layer, module)
    if old is None or new is None:
        return None
    nearest = np.minimum(np.searchsorted(old, new), len(old) - 1)
    return np.where(old[nearest] == new, nearest, -1)


def _moved(values: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    """Return values[rows][:, columns], zero where a position is -1."""
    kept = (rows >= 0)[:, None] & (columns >= 0)  # (new rows, new columns)
    return np.where(kept, values[rows][:, columns], np.float32(0))


def _rewound(first: Floats, second: Floats, step: int) -> Moment:
    """Return the moment with step count 1 and the same bias-corrected values."""
    beta1, beta2 = BETAS
    return Moment(
        first=first * np.float32((1 - beta1) / (1 - beta1**step)),
        second=second * np.float32((1 - beta2) / (1 - beta2**step)),
        step=1,
    )
