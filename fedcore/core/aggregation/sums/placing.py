"""Where a device's factors lie in full coordinates: a rank prefix, and the rows or columns that it keeps.

Theory. Masks are one-sided: of a linear layer a device keeps rows of B (out, rank) or columns of A (rank, in), never
both. So a tensor in a device's coordinates is a rectangle of the full one: the first `rank` components on one side, and
the kept rows or columns on the other. `placement` says which side is cut. A `Placer` adds all of a device's tensors
into sums of full coordinates, in one of three ways, from the cheapest on: whole rows at once where nothing is cut, kept
rows of wide factors by row index, and any other tensor value by value. It computes positions once for all modules of a
layer that share them (q, k and v keep the same rows). `add.at` on one-dimensional positions is a single pass; fancy
indexing would gather and scatter.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Cut
from fedcore.core.model.keep_set import KeepSet

T = TypeVar("T", np.float32, np.int64)
Integers = NDArray[np.int64]
_Units = tuple[str, int]  # the unit that a layer is cut by, and the rows or columns of one unit

_UNCUT: _Units = ("", 0)
_WHOLE_ROWS_FROM = 32  # values in a row: from here on adding whole rows is faster than value by value (measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Kept rows of B or kept columns of A, ascending; None where all are kept."""

    b_rows: Integers | None = None  # (kept out,)
    a_columns: Integers | None = None  # (kept in,)


def placement(spec: AdapterSpec, keep_set: KeepSet, layer: int, module: str) -> Placement:
    """Return the rows or columns of `module` in `layer` that a device with `keep_set` holds."""
    cut = spec.geometry.cut(module)
    kept = keep_set.indices(spec.geometry, layer, module)  # (kept rows or columns,)
    if cut is None or kept is None:
        return Placement()
    out, into = spec.geometry.shape(module)
    if len(kept) == (out if cut.side == "out" else into):
        return Placement()
    return Placement(b_rows=kept) if cut.side == "out" else Placement(a_columns=kept)


@dataclass(slots=True, kw_only=True)
class Placer:
    """Adds tensors of a device with `rank` and `keep_set` into `totals`, C-contiguous arrays of full coordinates."""

    spec: AdapterSpec
    rank: int
    keep_set: KeepSet
    totals: Mapping[str, Integers]
    _layer: int = -1
    _cuts: dict[str, Cut | None] = field(default_factory=dict)  # by module
    _kept: dict[_Units, Integers | None] = field(default_factory=dict)
    _positions: dict[tuple[_Units, str, tuple[int, ...]], Integers] = field(default_factory=dict)

    def add(self, name: str, first: int, block: Integers) -> None:
        """Add `block` (m, n), C-contiguous: rows from `first` on of the tensor `name`; a head is one column."""
        total = as_matrix(self.totals[name])  # (out, rank) of B, (rank, in) of A
        rows = slice(first, first + len(block))
        units, kept = self._kept_of(name)
        if kept is None and block.shape[1] == total.shape[1]:
            total[rows] += block
        elif name.endswith(".B") and self.rank >= _WHOLE_ROWS_FROM:
            total[rows if kept is None else kept[rows], : self.rank] += block
        else:
            key = units, name[-1], total.shape
            if key not in self._positions:
                self._positions[key] = self._positioned(name, total, kept)
            start = first * block.shape[1]
            np.add.at(total.reshape(-1), self._positions[key][start : start + block.size], block.reshape(-1))

    def _kept_of(self, name: str) -> tuple[_Units, Integers | None]:
        """Return the unit that cuts the long side of a factor, and the kept indices; None where all are kept."""
        if not name.startswith("layers."):
            return _UNCUT, None
        _, layer, module, factor = name.split(".")
        if int(layer) != self._layer:
            self._layer = int(layer)
            self._kept.clear()
            self._positions.clear()
        if module not in self._cuts:
            self._cuts[module] = self.spec.geometry.cut(module)
        cut = self._cuts[module]
        if cut is None or cut.side != ("out" if factor == "B" else "in"):
            return _UNCUT, None
        units = cut.unit, cut.width
        if units not in self._kept:
            kept, whole = self.keep_set.indices(self.spec.geometry, self._layer, module), self.totals[name]
            full = kept is None or len(kept) == whole.shape[0 if factor == "B" else 1]
            self._kept[units] = None if full else kept
        return units, self._kept[units]

    def _positioned(self, name: str, total: Integers, kept: Integers | None) -> Integers:
        """Return the position of every value of a factor in the flat total."""
        rows = columns = np.arange(self.rank)  # of B the columns, of A the rows; the other side follows
        if name.endswith(".B"):
            rows = np.arange(total.shape[0]) if kept is None else kept
        elif kept is not None:
            columns = kept
        positions: Integers = rows[:, None] * total.shape[1] + columns  # (rows, columns) of the factor
        return positions.reshape(-1)


def as_matrix(value: NDArray[T]) -> NDArray[T]:
    """Return a head's tensor, of any number of axes, as one column (values, 1); a factor as it is."""
    return value if value.ndim == 2 else value.reshape(-1, 1)
