"""Sums of updates that share rank and keep-set, in their own coordinates, before they are placed in full ones.

Adding a masked update value by value into full coordinates costs two to four times what adding it costs. Updates of
one round share few pairs of rank and keep-set, so each pair has sums of its own and is placed once, when it is needed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec
from fedcore.aggregation.fixed_point import BLOCK_VALUES, add_integers, add_weighted, unbias
from fedcore.aggregation.placement import placement
from fedcore.aggregation.segments import Segment, add_biased, empty_segments
from fedcore.keep_set import KeepSet
from fedcore.update import Update

T = TypeVar("T", np.float32, np.int64)
StratumKey = tuple[int, str]  # (rank, keep-set's blob id)


@dataclass(slots=True, kw_only=True)
class Stratum:
    """Sums in the coordinates of a holder of `rank` and `keep_set`, with the bias of a total weight `biased`.

    `segments` is empty until something is added.
    """

    rank: int
    keep_set: KeepSet
    segments: list[Segment] = field(default_factory=list)
    biased: int = 0

    @staticmethod
    def whole(spec: AdapterSpec) -> "Stratum":
        """Return the empty stratum of full coordinates."""
        return Stratum(rank=spec.rank, keep_set=KeepSet.full(spec.geometry))

    def open(self, spec: AdapterSpec) -> None:
        """Make room for the sums."""
        if not self.segments:
            self.segments += empty_segments(spec.shapes(rank=self.rank, keep_set=self.keep_set))

    def add(self, update: Update, spec: AdapterSpec) -> None:
        """Add an update of this rank and keep-set; raises UpdateRejected, the sums spoilt, where it does not fit."""
        self.open(spec)
        add_biased(self.segments, update.tensors, update.weight, checked=update.verified)
        self.biased += update.weight

    def join(self, other: "Stratum", spec: AdapterSpec) -> None:
        """Add the sums of another stratum of the same coordinates."""
        if not other.segments:
            return
        self.open(spec)
        for mine, theirs in zip(self.segments, other.segments, strict=True):
            mine.sums[:] += theirs.sums
        self.biased += other.biased

    def exact(self) -> list[Segment]:
        """Take the bias off and return the sums, which stay this stratum's."""
        for segment in self.segments if self.biased else ():
            unbias(segment.sums, self.biased)
        self.biased = 0
        return self.segments


def place(stratum: Stratum, whole: Stratum, spec: AdapterSpec) -> None:
    """Add a stratum's sums into those of full coordinates; the stratum is used up, one array after the other."""
    whole.open(spec)
    totals, segments = dict(_tensors(whole)), stratum.exact()
    while segments:
        for name, sums in segments.pop(0).tensors():
            rows, columns = held(spec, stratum.keep_set, name)
            total, matrix = as_matrix(totals[name]), as_matrix(sums)
            step = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
            for start in range(0, matrix.shape[0], step):
                kept = None if rows is None else rows[start : start + step]
                at = total[start:] if rows is None else total
                add_integers(at, matrix[start : start + step], rows=kept, columns=columns)


def place_update(update: Update, whole: Stratum, spec: AdapterSpec) -> None:
    """Add one update of any rank and keep-set straight into full coordinates, tensor by tensor."""
    whole.open(spec)
    totals = dict(_tensors(whole))
    for name in spec.shapes():
        rows, columns = held(spec, update.keep_set, name)
        add_weighted(
            as_matrix(totals[name]), as_matrix(update.tensors[name]), update.weight, rows=rows, columns=columns
        )


def held(spec: AdapterSpec, keep_set: KeepSet, name: str) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return the rows or the columns of tensor `name` that a holder of `keep_set` has; None for all of them."""
    if not name.startswith("layers."):
        return None, None
    _, layer, module, factor = name.split(".")
    at = placement(spec, keep_set, int(layer), module)
    return (None, at.a_columns) if factor == "A" else (at.b_rows, None)


def as_matrix(value: NDArray[T]) -> NDArray[T]:
    """Return a head's tensor, of any number of axes, as one column; a factor as it is."""
    return value if value.ndim == 2 else value.reshape(-1, 1)


def _tensors(stratum: Stratum) -> Iterator[tuple[str, NDArray[np.int64]]]:
    for segment in stratum.segments:
        yield from segment.tensors()
