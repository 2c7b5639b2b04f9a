"""Integer sums of all of an update's tensors, end to end in a few flat arrays, so that folding runs in long blocks.

Small tensors would otherwise cost more in calls than in arithmetic. An array holds whole tensors up to 8 MiB, or one
larger tensor: `finish` can release them one by one. Within an array every value is touched by every update, which is
what lets the fixed point's bias be taken off once, at the end (fixed_point).
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
    sums: NDArray[np.int64]

    def tensors(self) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """Yield every tensor's name and sum, as a view."""
        start = 0
        for name, shape in self.shapes.items():
            stop = start + math.prod(shape)
            yield name, self.sums[start:stop].reshape(shape)
            start = stop


def empty_segments(shapes: Shapes) -> list[Segment]:
    """Return zeros for tensors of these shapes; pages that are never touched take no memory."""
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
    segments: list[Segment], tensors: Mapping[str, NDArray[np.float32]], weight: int, *, known: bool
) -> None:
    """Add weight * (q + BIAS) of every tensor, each read once and in order.

    Raises UpdateRejected, with the sums spoilt, for another shape or a value outside the bound; values known to lie
    inside (`known`) are not looked at again.
    """
    scratch = np.empty(BLOCK_VALUES, dtype=np.float64)
    for segment in segments:
        done = filled = 0
        for name, shape in segment.shapes.items():
            flat, taken = checked(name, tensors[name], shape, known=known).reshape(-1), 0
            while taken < flat.size:
                step = min(flat.size - taken, BLOCK_VALUES - filled)
                scratch[filled : filled + step] = flat[taken : taken + step]
                filled, taken = filled + step, taken + step
                if filled == BLOCK_VALUES:
                    _add_block(segment.sums[done : done + filled], scratch, weight)
                    done, filled = done + filled, 0
        _add_block(segment.sums[done:], scratch[:filled], weight)


def add_biased_stack(segments: list[Segment], stack: UpdateStack) -> None:
    """Add weight * (q + BIAS) of every tensor of every device, as `add_biased` would of each.

    Raises UpdateRejected, with the sums spoilt, for another shape or, unless verified, a value outside the bound.
    """
    weights = np.asarray(stack.weights, dtype=np.int64)
    for segment in segments:
        start = 0
        for name, shape in segment.shapes.items():
            stop = start + math.prod(shape)
            value = checked(name, stack.tensors[name], (len(stack), *shape), known=stack.verified)
            add_biased_rows(segment.sums[start:stop], value.reshape(len(stack), stop - start), weights)
            start = stop


def checked(name: str, value: NDArray[np.float32], shape: tuple[int, ...], *, known: bool) -> NDArray[np.float32]:
    """Return `value`; raises UpdateRejected for another shape and, unless known, for a value out of bounds."""
    if value.shape != shape:
        raise UpdateRejected(f"{name} has shape {value.shape}, expected {shape}; verify updates before folding")
    if not known:
        check_bounds(value)
    return value


def _add_block(sums: NDArray[np.int64], values: NDArray[np.float64], weight: int) -> None:
    sums += biased_integers(values, weight)
