"""Lossless coding of float arrays: one plane per byte position, each compressed by zstd where that gains.

The byte that holds sign and exponent of trained increments takes few values and compresses two- to three-fold; mantissa
bytes are noise and are stored raw. Splitting them first is what makes the difference (DFloat11, Zhang et al. 2025,
arXiv 2504.11651, codes the exponents alone for the same reason). A plane's stored size tells which it is: exactly one
byte per value means raw, less means one zstd frame.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from fedcore.errors import ProtocolError

LEVEL = 1  # higher levels are slower and no smaller on exponent planes
_LEAST_GAIN = 32  # a frame must save 1/32 of its plane, or decoding it is not worth the time


def split_planes(values: NDArray[Any]) -> list[bytes]:
    """Return one stored plane per byte position of `values`, least significant first; none exceeds its raw size."""
    count, width = values.size, values.dtype.itemsize
    planes = np.ascontiguousarray(values).reshape(-1).view(np.uint8).reshape(count, width).T
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    return [_smaller(compressor, np.ascontiguousarray(plane)) for plane in planes]


def join_planes(data: memoryview, sizes: Sequence[int], *, count: int, dtype: str) -> NDArray[Any]:
    """Return the `count` values, 1-d, whose stored planes follow each other in `data` with the given byte sizes.

    Nothing larger than the result is allocated. Raises ProtocolError where sizes do not fit `data` and `dtype`, or a
    frame is damaged or declares another length.
    """
    width = np.dtype(dtype).itemsize
    if len(sizes) != width or any(not 0 <= size <= count for size in sizes) or sum(sizes) != len(data):
        raise ProtocolError(
            f"byte planes: expected {width} sizes of at most {count} bytes adding up to {len(data)}, got {list(sizes)}"
        )
    planes = np.empty((count, width), dtype=np.uint8)
    start = 0
    for index, size in enumerate(sizes):
        stored = data[start : start + size]
        plane = stored if size == count else _decompressed(stored, count)
        planes[:, index] = np.frombuffer(plane, dtype=np.uint8)
        start += size
    return planes.reshape(-1).view(dtype)


def _smaller(compressor: zstandard.ZstdCompressor, plane: NDArray[np.uint8]) -> bytes:
    raw = plane.tobytes()
    frame = compressor.compress(raw)
    return frame if len(frame) < len(raw) - len(raw) // _LEAST_GAIN else raw


def _decompressed(frame: memoryview, count: int) -> bytes:
    try:
        # the frame's own claim decides what zstd allocates, so it is compared before anything is decompressed
        declared = zstandard.get_frame_parameters(frame).content_size
        if declared != count:
            raise ProtocolError(f"zstd frame declares {declared} bytes where {count} were expected; encode again")
        plane: bytes = zstandard.ZstdDecompressor().decompress(frame, max_output_size=count, allow_extra_data=False)
    except zstandard.ZstdError as cause:
        raise ProtocolError(f"damaged zstd frame ({cause}); encode and send again") from None
    if len(plane) != count:
        raise ProtocolError(f"zstd frame holds {len(plane)} bytes where {count} were expected; encode again")
    return plane
