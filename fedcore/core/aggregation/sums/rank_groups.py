"""Sums of updates that share rank and keep-set, in their own coordinates, before they are placed in full ones.

Theory. Adding a masked update value by value into full coordinates costs two to four times as much as adding it to sums
of its own shape. The updates of one round share few pairs of rank and keep-set. So a pair that returns gets a group,
which sums in the coordinates of that pair; `place` adds the group into full coordinates once, when its partial is
merged into another one, packed or finished. An update of any other pair goes straight into full coordinates
(`place_update`). Both ways add the same integers, so the choice between them changes no bit; it only saves time. A
group keeps the bias of the fixed point (fixed_point) until `exact`: `biased` counts the weight behind it.
"""

from dataclasses import dataclass, field

import numpy as np

from fedcore.core.aggregation.sums.fixed_point import BLOCK_VALUES, biased_integers, unbias
from fedcore.core.aggregation.sums.placing import Placer, as_matrix
from fedcore.core.aggregation.sums.segments import Segment, add_biased, add_biased_stack, checked, empty_segments
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet

GroupKey = tuple[int, str]  # (rank, keep-set's blob id)


@dataclass(slots=True, kw_only=True)
class RankGroup:
    """Sums in the coordinates of a device with `rank` and `keep_set`, with the bias of a total weight `biased`.

    `segments` is empty until something is added.
    """

    rank: int
    keep_set: KeepSet
    segments: list[Segment] = field(default_factory=list)
    biased: int = 0

    @staticmethod
    def whole(spec: AdapterSpec) -> "RankGroup":
        """Return the empty group of full coordinates."""
        return RankGroup(rank=spec.rank, keep_set=KeepSet.full(spec.geometry))

    def open(self, spec: AdapterSpec) -> None:
        """Make room for the sums."""
        if not self.segments:
            self.segments += empty_segments(spec.shapes(rank=self.rank, keep_set=self.keep_set))

    def add(self, update: Update, spec: AdapterSpec) -> None:
        """Add an update of this rank and keep-set; raises UpdateRejected, the sums spoilt, where it does not fit."""
        self.open(spec)
        add_biased(self.segments, update.tensors, update.weight, verified=update.verified)
        self.biased += update.weight

    def add_stack(self, stack: UpdateStack, spec: AdapterSpec) -> None:
        """Add updates of this rank and keep-set at once; raises like `add`."""
        self.open(spec)
        add_biased_stack(self.segments, stack)
        self.biased += sum(stack.weights)

    def join(self, other: "RankGroup", spec: AdapterSpec) -> None:
        """Add the sums of another group of the same coordinates."""
        if not other.segments:
            return
        self.open(spec)
        for segment, addend in zip(self.segments, other.segments, strict=True):
            segment.sums[:] += addend.sums
        self.biased += other.biased

    def exact(self) -> list[Segment]:
        """Subtract the bias and return the sums, which stay in this group."""
        for segment in self.segments if self.biased else ():
            unbias(segment.sums, self.biased)
        self.biased = 0
        return self.segments


def place(group: RankGroup, whole: RankGroup, spec: AdapterSpec) -> None:
    """Add a group's sums into those of full coordinates; the group is consumed, one array after the other."""
    placer, segments = _placer(group, whole, spec), group.exact()
    while segments:
        for name, sums in segments.pop(0).tensors():
            matrix = as_matrix(sums)  # (kept out, rank) of B, (rank, kept in) of A
            step = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
            for start in range(0, matrix.shape[0], step):
                placer.add(name, start, matrix[start : start + step])


def place_update(update: Update, whole: RankGroup, spec: AdapterSpec) -> None:
    """Add one update of any rank and keep-set straight into full coordinates, in blocks of several tensors.

    Raises UpdateRejected, with the sums spoilt, for another shape or a value out of bounds.
    """
    shapes = spec.shapes(rank=update.rank, keep_set=update.keep_set)
    placer = _placer(update, whole, spec)
    widest = max((shape[-1] for shape in shapes.values() if len(shape) == 2), default=1)
    scratch, filled = np.empty(max(BLOCK_VALUES, widest)), 0
    pieces: list[tuple[str, int, tuple[int, ...]]] = []

    def flush() -> None:
        integers, start = biased_integers(scratch[:filled], update.weight), 0
        unbias(integers, update.weight)
        for name, first, (count, width) in pieces:
            placer.add(name, first, integers[start : start + count * width].reshape(count, width))
            start += count * width
        pieces.clear()

    for name, shape in shapes.items():
        value = as_matrix(checked(name, update.tensors[name], shape, verified=update.verified))  # (rows, columns)
        step = max(1, BLOCK_VALUES // max(1, value.shape[1]))
        for first in range(0, value.shape[0], step):
            piece = value[first : first + step]
            if filled + piece.size > scratch.size:
                flush()
                filled = 0
            scratch[filled : filled + piece.size] = piece.reshape(-1)
            pieces.append((name, first, piece.shape))
            filled += piece.size
    flush()


def _placer(source: RankGroup | Update, whole: RankGroup, spec: AdapterSpec) -> Placer:
    whole.open(spec)
    totals = {name: total for segment in whole.segments for name, total in segment.tensors()}
    return Placer(spec=spec, rank=source.rank, keep_set=source.keep_set, totals=totals)
