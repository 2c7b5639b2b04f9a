"""Integer sums on the wire: every tensor in the fewest of 4, 5, 6 or 8 bytes a value that hold it, bit for bit.

    4   one tensor NAME of I32               5, 6   NAME/low of U32 and NAME/high of I8 or I16: high * 2**32 + low
    8   one tensor NAME of I64

Theory. A sum of increments seldom needs 40 of its 64 bits. It is stored as two arrays, the lower 32 bits and what is
above them, and not as 5-byte integers, for two reasons: copying whole arrays runs at the speed of memory in both
directions, and ordinary safetensors tools can read the file. The writer takes the smallest width that holds the largest
value of the tensor, so equal sums give equal bytes. The reader believes neither width nor values: it checks shapes, and
that no value exceeds what the total weight allows (MAX_INTEGER times the weight), so a forged sum cannot overflow the
sum it is added to.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.fixed_point import MAX_INTEGER
from fedcore.core.codec.container import Entry, Outline
from fedcore.core.errors import UpdateRejected

LOW, HIGH = "/low", "/high"
_LOW_BITS = 32
_HIGH_TAGS: Mapping[int, str] = {5: "I8", 6: "I16"}
_DTYPES: Mapping[str, str] = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U32": "<u4"}
_BLOCK_VALUES = 1 << 16  # 512 KiB of int64: stays in the second-level cache

Shape = tuple[int, ...]
Integers = NDArray[np.int64]


def width_of(total: Integers) -> int:
    """Return the fewest of 4, 5, 6 and 8 bytes that hold every value of `total`."""
    low, high = (int(total.min()), int(total.max())) if total.size else (0, 0)
    for width in (4, 5, 6):
        limit = 1 << (8 * width - 1)
        if -limit <= low and high < limit:
            return width
    return 8


def outlines_of(name: str, shape: Shape, width: int) -> dict[str, Outline]:
    """Return the wire tensors of one sum of `shape` at `width` bytes a value, in the order `planes` writes them."""
    if width in _HIGH_TAGS:
        return {
            name + LOW: Outline(tag="U32", shape=shape),
            name + HIGH: Outline(tag=_HIGH_TAGS[width], shape=shape),
        }
    return {name: Outline(tag="I32" if width == 4 else "I64", shape=shape)}


def plane(total: Integers, wire_name: str, tag: str) -> Iterator[memoryview]:
    """Yield the bytes of one wire tensor of `total`, block by block; nothing of its size is allocated."""
    flat = total.reshape(-1)
    for start in range(0, flat.size, _BLOCK_VALUES):
        block = flat[start : start + _BLOCK_VALUES]
        if wire_name.endswith(HIGH):
            block = block >> _LOW_BITS
        yield block.astype(_DTYPES[tag], copy=False).view(np.uint8).data


class NarrowSums(Mapping[str, Integers]):
    """Sums in a received buffer; each access widens one tensor, and nothing is cached.

    `shapes` names the sums expected and `weight` the total weight behind them. Raises UpdateRejected where a tensor
    is missing, has another shape or width, or holds a value that no sum of this weight can reach.
    """

    def __init__(self, entries: Mapping[str, Entry], shapes: Mapping[str, Shape], *, weight: int) -> None:
        self._planes = {name: _planes_of(entries, name, shape) for name, shape in shapes.items()}
        self._shapes = dict(shapes)
        for name in shapes:
            self.check(name, weight)

    @property
    def wire_names(self) -> set[str]:
        """The names of the wire tensors that make up these sums."""
        return {
            wire
            for name, parts in self._planes.items()
            for wire in ((name,) if len(parts) == 1 else (name + LOW, name + HIGH))
        }

    def __getitem__(self, name: str) -> Integers:
        """Return one sum as a new int64 array."""
        total = np.empty(math.prod(self._shapes[name]), dtype=np.int64)
        for start, block in self._blocks(name):
            total[start : start + block.size] = block
        return total.reshape(self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def add_to(self, total: Integers, name: str) -> None:
        """Add one sum into contiguous `total` in place, block by block."""
        flat = total.reshape(-1)
        for start, block in self._blocks(name):
            flat[start : start + block.size] += block

    def _blocks(self, name: str) -> Iterator[tuple[int, Integers]]:
        planes = self._planes[name]
        scratch = np.empty(min(_BLOCK_VALUES, planes[0].size), dtype=np.int64)
        for start in range(0, planes[0].size, _BLOCK_VALUES):
            stop = min(start + _BLOCK_VALUES, planes[0].size)
            block = scratch[: stop - start]
            if len(planes) == 2:
                np.copyto(block, planes[1][start:stop])
                np.left_shift(block, _LOW_BITS, out=block)
                np.bitwise_or(block, planes[0][start:stop], out=block)
            else:
                np.copyto(block, planes[0][start:stop])
            yield start, block

    def check(self, name: str, weight: int) -> None:
        """Raise UpdateRejected where a sum holds a value that this weight cannot reach."""
        planes, limit = self._planes[name], weight * MAX_INTEGER
        width = sum(values.dtype.itemsize for values in planes)
        if 1 << (8 * width - 1) <= limit:
            return  # no value of that width is too large, so the bytes need not be read
        for _, block in self._blocks(name):
            if int(block.max()) > limit or int(block.min()) < -limit:
                raise UpdateRejected(
                    f"partial: {name} holds a sum its weight cannot reach (limit {limit}); refold it from the updates"
                )


def accumulator(sums: Mapping[str, Integers]) -> dict[str, Integers]:
    """Return `sums` as arrays that can be added into: `sums` itself, or a widened copy of a received buffer."""
    return sums if isinstance(sums, dict) else {name: sums[name] for name in sums}


def add_sums(totals: dict[str, Integers], other: Mapping[str, Integers]) -> None:
    """Add `other` into the arrays of `totals` in place; names and shapes must agree."""
    for name, total in totals.items():
        if isinstance(other, NarrowSums):
            other.add_to(total, name)
        else:
            total += other[name]


def _planes_of(entries: Mapping[str, Entry], name: str, shape: Shape) -> tuple[NDArray[Any], ...]:
    whole, low, high = entries.get(name), entries.get(name + LOW), entries.get(name + HIGH)
    if whole is not None and whole.tag in ("I32", "I64"):
        parts: tuple[Entry, ...] = (whole,)
    elif low is not None and high is not None and low.tag == "U32" and high.tag in _HIGH_TAGS.values():
        parts = (low, high)
    else:
        raise UpdateRejected(f"partial: expected integer sums {name} of {list(shape)}; it is missing or no integer")
    for part in parts:
        if part.shape != shape:
            raise UpdateRejected(f"partial: {name} has shape {list(part.shape)}, expected {list(shape)}")
    return tuple(np.frombuffer(part.data, dtype=_DTYPES[part.tag]) for part in parts)
