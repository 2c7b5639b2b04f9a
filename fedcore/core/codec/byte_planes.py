"""Lossless coding of float arrays: bits rotated by one, one plane per byte position, entropy-coded where that helps.

Rotated left by one bit, a float32 or bfloat16 has its 8 exponent bits first, then mantissa, then sign. The most
significant byte is then the exponent alone, which takes few values in trained increments and codes in about 2.5 bits;
sign and mantissa are noise and are stored raw. (Without the rotation, the top byte would spend a whole bit on the sign
and leave one exponent bit in the noise.) DFloat11 codes the exponents alone for the same reason: Zhang et al. 2025,
arXiv 2504.11651. One-byte arrays are one plane as they are.

The coder is the Huffman stage of zstd (`fedcore.core.codec.frames`). A plane's stored size says how it is stored:
exactly one byte per value means raw, less means one zstd frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.frames import huffman_frame, opened
from fedcore.core.errors import ProtocolError

_LEAST_GAIN = 32  # a frame must save 1/32 of its plane, or decoding it is not worth the time
_UNSIGNED: Mapping[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("<u2"),
    4: np.dtype("<u4"),
}  # by width in bytes
_PIECE = 1 << 15  # values processed at once, so that all intermediate arrays stay in the cache


def split_planes(values: NDArray[Any]) -> list[bytes]:
    """Return one stored plane per byte position of `values`, least significant first; none exceeds its raw size.

    `values` is an array of 1-, 2- or 4-byte numbers; their bits are coded.
    """
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).reshape(-1).view(_UNSIGNED[width])
    planes = _rotated(bits) if width > 1 else bits[None, :]
    return [_smaller(plane) for plane in planes]


def join_planes(data: memoryview, sizes: Sequence[int], *, count: int, dtype: str) -> NDArray[Any]:
    """Return the `count` values, 1-d, of the stored planes that follow each other in `data` with these byte `sizes`.

    Nothing larger than the result is allocated. Raises ProtocolError where sizes do not fit `data` and `dtype`, or a
    frame is damaged or declares another length.
    """
    width = np.dtype(dtype).itemsize
    if len(sizes) != width or min(sizes) < 0 or max(sizes) > count or sum(sizes) != len(data):
        raise ProtocolError(
            f"byte planes: expected {width} sizes of at most {count} bytes adding up to {len(data)}, got {list(sizes)}"
        )
    planes, start = [], 0
    for size in sizes:
        stored = data[start : start + size]
        planes.append(np.frombuffer(stored if size == count else opened(stored, count), dtype=np.uint8))
        start += size
    return planes[0].view(dtype) if width == 1 else _joined(planes).view(dtype)


def _rotated(bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the planes of `bits` rotated left by one. Shape: (width, values)."""
    width = bits.dtype.itemsize
    planes = np.empty((width, bits.size), dtype=np.uint8)
    for low in range(0, bits.size, _PIECE):
        part = slice(low, low + _PIECE)
        rotated = bits[part] << 1
        rotated |= bits[part] >> (8 * width - 1)
        for index in range(width):
            np.copyto(planes[index, part], rotated >> (8 * index), casting="unsafe")  # keeps the lowest byte
    return planes


def _joined(planes: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
    """Return the unsigned integers behind their planes, least significant first."""
    count = planes[0].size
    if count <= _PIECE:
        return _assembled(planes)
    values = np.empty(count, dtype=_UNSIGNED[len(planes)])
    for low in range(0, count, _PIECE):
        part = slice(low, low + _PIECE)
        values[part] = _assembled([plane[part] for plane in planes])
    return values


def _assembled(planes: Sequence[NDArray[np.uint8]]) -> NDArray[Any]:
    bits = planes[-1].astype(_UNSIGNED[len(planes)])
    for plane in planes[-2::-1]:
        bits <<= 8
        bits |= plane
    values: NDArray[Any] = bits >> 1
    bits <<= 8 * len(planes) - 1
    values |= bits
    return values


def _smaller(plane: NDArray[np.uint8]) -> bytes:
    frame = huffman_frame(plane.data)
    return frame if len(frame) < plane.size - plane.size // _LEAST_GAIN else plane.tobytes()
