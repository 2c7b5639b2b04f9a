"""Integer sums of all tensors of an update, end to end in a few flat arrays, so that folding runs in long blocks.

Small tensors would otherwise cost more in calls than in arithmetic. An array holds whole tensors up to 8 MiB, or one
larger tensor, so `finish` can release the arrays one by one. Every update adds to every value of an array; therefore
the bias of the fixed point can be subtracted once, at the end (fixed_point).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.fixed_point import BLOCK_VALUES, add_biased_rows, biased_integers, check_bounds
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.errors import UpdateRejected

_SEGMENT_VALUES = 1 << 20

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Consecutive tensors, their shapes in order, and their sums, flat int64."""

    shapes: Shapes
    sums: NDArray[np.int64]  # (values,)

    def tensors(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Yield every tensor's name and sum, as a view."""
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            yield name, self.sums[start:stop].reshape(shape)
            start = stop


def empty_segments(shapes: Shapes) -> list[Segment]:
    """Return zeros for tensors of these shapes; memory pages that no update writes take no memory."""
    groups: list[dict[str, tuple[int, ...]]] = []
    room = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        if size > room or not groups:
            groups.append({})
            room = max(_SEGMENT_VALUES, size)
        groups[-1][name] = shape
        room -= size
    return [
        Segment(shapes=group, sums=np.zeros(sum(math.prod(s) for s in group.values()), np.int64)) for group in groups
    ]


def add_biased(
    segments: list[Segment], tensors: Mapping[str, NDArray[np.float32]], weight: int, *, verified: bool
) -> None:
    """Add weight * (q + BIAS) of every tensor, each read once and in order.

    Raises UpdateRejected, with the sums spoilt, for another shape or a value outside the bound; values of a
    `verified` update are not checked again.
    """
    scratch = np.empty(BLOCK_VALUES, dtype=np.float64)
    for segment in segments:
        offset = filled = 0  # values added to the segment, values in the scratch
        for name, shape in segment.shapes.items():
            flat, start = checked(name, tensors[name], shape, verified=verified).reshape(-1), 0  # (values,)
            while start < flat.size:
                step = min(flat.size - start, BLOCK_VALUES - filled)
                scratch[filled : filled + step] = flat[start : start + step]
                filled, start = filled + step, start + step
                if filled == BLOCK_VALUES:
                    _add_block(segment.sums[offset : offset + filled], scratch, weight)
                    offset, filled = offset + filled, 0
        _add_block(segment.sums[offset:], scratch[:filled], weight)


def add_biased_stack(segments: list[Segment], stack: UpdateStack) -> None:
    """Add weight * (q + BIAS) of every tensor of every device, as `add_biased` would for each device.

    Raises UpdateRejected, with the sums spoilt, for another shape or, unless verified, a value outside the bound.
    """
    weights = np.asarray(stack.weights, dtype=np.int64)
    for segment in segments:
        start = 0
        for name, shape in segment.shapes.items():
            stop = start + math.prod(shape)
            value = checked(name, stack.tensors[name], (len(stack), *shape), verified=stack.verified)
            rows = value.reshape(len(stack), stop - start)  # (devices, values)
            add_biased_rows(segment.sums[start:stop], rows, weights)
            start = stop


def checked(name: str, value: NDArray[np.float32], shape: tuple[int, ...], *, verified: bool) -> NDArray[np.float32]:
    """Return `value`; raises UpdateRejected for another shape and, unless verified, for a value out of bounds."""
    if value.shape != shape:
        raise UpdateRejected(f"{name} has shape {value.shape}, expected {shape}; verify updates before folding")
    if not verified:
        check_bounds(value)
    return value


def _add_block(sums: NDArray[np.int64], values: NDArray[np.float64], weight: int) -> None:
    sums += biased_integers(values, weight)
