"""One tensor as a chain stores it: positions of kept values, arrays of the number format, each entropy-coded or not.

The bytes follow each other in this order. Their description, JSON beside the tensor, is

    {"shape": [...], "format": "int8:128", "kept": [count, coding, bytes], "planes": [[...], ...]}

It has no "kept" where every value is kept, and no "planes" where nothing is compressed. All that follows from shape and
format is computed and never read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.byte_planes import join_planes, split_planes
from fedcore.core.codec.container import checked_shape
from fedcore.core.codec.formats import Floats, Format, Layout, layout_bytes
from fedcore.core.codec.grammar import Chain, parse_format
from fedcore.core.codec.sparsify import (
    BITMAP,
    GAPS,
    kept_count,
    largest,
    pack_positions,
    positions_bound,
    unpack_positions,
)
from fedcore.core.errors import ConfigError, ProtocolError

_FIELDS = {"shape", "format", "kept", "planes"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A tensor's bytes and their description; every size is checked except those inside compressed planes."""

    shape: tuple[int, ...]
    format: Format
    kept: tuple[int, str, int] | None  # number of values, coding and bytes of their positions
    planes: tuple[tuple[int, ...], ...] | None
    data: memoryview

    @property
    def layout(self) -> Layout:
        """Type and length of every stored array, positions first."""
        return _layout(self.shape, self.format, self.kept)

    def tensor(self) -> Floats:
        """Return the values; raises ProtocolError where compressed bytes or positions are damaged."""
        arrays = self._arrays()
        size = math.prod(self.shape)
        if self.kept is None:
            return self.format.load(arrays, size).reshape(self.shape)
        count, coding, _ = self.kept
        positions = unpack_positions(coding, arrays[0], size=size, count=count)
        values = np.zeros(size, dtype="<f4")
        values[positions] = self.format.load(arrays[1:], count)
        return values.reshape(self.shape)

    def _arrays(self) -> list[NDArray[Any]]:
        arrays, start = [], 0
        for index, (dtype, count) in enumerate(self.layout):
            sizes = None if self.planes is None else self.planes[index]
            size = np.dtype(dtype).itemsize * count if sizes is None else sum(sizes)
            data = self.data[start : start + size]
            if sizes is None:
                arrays.append(np.frombuffer(data, dtype=dtype))
            else:
                arrays.append(join_planes(data, sizes, count=count, dtype=dtype))
            start += size
        return arrays


def pack_tensor(value: Floats, chain: Chain) -> tuple[bytes, Mapping[str, Any]]:
    """Return the bytes of a float32 tensor of any shape and their description."""
    flat = np.ascontiguousarray(value).reshape(-1)
    described: dict[str, Any] = {"shape": value.shape, "format": chain.format.word}
    arrays: list[NDArray[Any]] = []
    if chain.share is not None:
        positions = largest(flat, kept_count(flat.size, chain.share))
        coding, stored = pack_positions(positions, flat.size)
        described["kept"] = (positions.size, coding, stored.size)
        arrays.append(stored)
        flat = flat[positions]
    arrays += chain.format.store(flat)
    if not chain.compress:
        return b"".join(array.tobytes() for array in arrays), described
    planes = [split_planes(array) for array in arrays]
    described["planes"] = [[len(plane) for plane in array_planes] for array_planes in planes]
    return b"".join(plane for array_planes in planes for plane in array_planes), described


def packed_bound(shape: tuple[int, ...], chain: Chain) -> int:
    """Return the most bytes `pack_tensor` makes of a tensor of this shape, without the description."""
    size = math.prod(shape)
    if chain.share is None:
        return layout_bytes(chain.format.layout(size))
    count = kept_count(size, chain.share)
    return positions_bound(size, count) + layout_bytes(chain.format.layout(count))


def packed(name: str, data: memoryview, described: object) -> Packed:
    """Return the tensor of received bytes and description; raises ProtocolError where they do not fit."""
    subject = f"tensor {name[:80]!r}"
    if not isinstance(described, dict) or not set(described) <= _FIELDS:
        raise ProtocolError(f"{subject}: expected a description of {', '.join(sorted(_FIELDS))}")
    shape = checked_shape(described.get("shape"), name)
    try:
        form = parse_format(str(described.get("format")))
    except ConfigError as cause:
        raise ProtocolError(f"{subject}: {cause}") from None
    kept = _kept(described["kept"], math.prod(shape), subject) if "kept" in described else None
    layout = _layout(shape, form, kept)
    planes = _planes(described["planes"], layout, subject) if "planes" in described else None
    expected = layout_bytes(layout) if planes is None else sum(map(sum, planes))
    if len(data) != expected:
        raise ProtocolError(f"{subject}: expected {expected} bytes, got {len(data)}; encode and send again")
    return Packed(shape=shape, format=form, kept=kept, planes=planes, data=data)


def _layout(shape: tuple[int, ...], form: Format, kept: tuple[int, str, int] | None) -> Layout:
    if kept is None:
        return form.layout(math.prod(shape))
    return (("u1", kept[2]), *form.layout(kept[0]))


def _kept(value: object, size: int, subject: str) -> tuple[int, str, int]:
    if not isinstance(value, list) or len(value) != 3 or value[1] not in (BITMAP, GAPS):
        raise ProtocolError(f"{subject}: expected number, {BITMAP} or {GAPS}, and bytes of the kept values")
    count, coding, stored = value
    if type(count) is not int or type(stored) is not int or not 0 <= count <= size:
        raise ProtocolError(f"{subject}: {str(count)[:20]} kept values do not fit a tensor of {size}")
    low, high = (-(-size // 8),) * 2 if coding == BITMAP else (count, count + (size - count) // 255)
    if not low <= stored <= high:
        raise ProtocolError(f"{subject}: expected {low} to {high} bytes of positions, got {str(stored)[:20]}")
    return count, coding, stored


def _planes(value: object, layout: Layout, subject: str) -> tuple[tuple[int, ...], ...]:
    """Return plane sizes of the right number, each a count of at most one byte per value."""
    if not isinstance(value, list) or len(value) != len(layout):
        raise ProtocolError(f"{subject}: expected plane sizes of {len(layout)} arrays")
    for sizes, (dtype, count) in zip(value, layout, strict=True):
        width = np.dtype(dtype).itemsize
        fits = isinstance(sizes, list) and len(sizes) == width
        if not fits or not all(type(size) is int and 0 <= size <= count for size in sizes):
            raise ProtocolError(f"{subject}: expected {width} plane sizes of at most {count} bytes")
    return tuple(map(tuple, value))
