"""The largest values of a tensor, and their positions.

Of n values the k with the largest absolute value are kept, of equal ones the earlier. NaN counts as larger than
infinity, so that no broken update looks sound. The receiver gets exactly zero for all other values.

Positions travel in the smaller of two codings. One is a bitmap of n bits. The other is one byte per kept value: the
number of values left out before it; a byte of 255 means 255 values left out and no kept value yet.
Top-k: Aji and Heafield 2017 (arXiv 1704.05021).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.formats import Floats
from fedcore.core.errors import ProtocolError

BITMAP, GAPS = "bitmap", "gaps"
_ESCAPE = 255

Positions = NDArray[np.int64]


def kept_count(size: int, share: float) -> int:
    """Return how many of `size` values a share in (0, 1] keeps: the nearest number, but at least one of any."""
    return min(size, max(1, round(size * share)))


def largest(values: Floats, count: int) -> Positions:
    """Return the ascending positions of the `count` largest absolute values of 1-d `values`."""
    if count >= values.size:
        return np.arange(values.size)
    sizes = values.view(np.uint32) & np.uint32(0x7FFFFFFF)  # ordered as the absolute values are, NaN on top
    threshold = np.partition(sizes, values.size - count)[values.size - count]
    above = sizes > threshold
    ties = np.flatnonzero(sizes == threshold)[: count - int(np.count_nonzero(above))]
    above[ties] = True
    return np.flatnonzero(above)


def positions_bound(size: int, count: int) -> int:
    """Return the most bytes the positions of `count` out of `size` values take."""
    return min(-(-size // 8), count + (size - count) // _ESCAPE)


def pack_positions(positions: Positions, size: int) -> tuple[str, NDArray[np.uint8]]:
    """Return the coding, BITMAP or GAPS, and the bytes of ascending positions below `size`."""
    gaps = np.diff(positions, prepend=-1) - 1
    escapes = gaps // _ESCAPE
    length = positions.size + int(escapes.sum())
    if -(-size // 8) <= length:
        mask = np.zeros(size, dtype=np.bool_)
        mask[positions] = True
        return BITMAP, np.packbits(mask, bitorder="little")
    stored = np.full(length, _ESCAPE, dtype=np.uint8)
    stored[np.cumsum(escapes + 1) - 1] = gaps % _ESCAPE
    return GAPS, stored


def unpack_positions(coding: str, stored: NDArray[Any], *, size: int, count: int) -> Positions:
    """Return the `count` ascending positions below `size`; raises ProtocolError where the bytes do not."""
    if coding == BITMAP:
        positions = np.flatnonzero(np.unpackbits(stored, bitorder="little"))
    else:
        ends = stored != _ESCAPE
        positions = np.cumsum(stored, dtype=np.int64)[ends]
        positions += np.arange(positions.size)
        if stored.size and not ends[-1]:
            raise ProtocolError("positions of kept values end in the middle of a gap; encode and send again")
    if positions.size != count or (count and int(positions[-1]) >= size):
        raise ProtocolError(f"positions: expected {count} below {size}, got {positions.size}; encode and send again")
    return positions
