"""Lossless coding of float arrays: bits rotated by one, one plane per byte position, entropy-coded where that gains.

Rotated left by one bit, a float32 or bfloat16 is its 8 exponent bits, then mantissa, then sign: the most significant
byte is the exponent alone, which takes few values in trained increments and codes in about 2.5 bits; sign and mantissa
are noise and are stored raw. (Unrotated, the top byte would spend a whole bit on the sign and leave one exponent bit
in the noise.) DFloat11 codes the exponents alone for the same reason: Zhang et al. 2025, arXiv 2504.11651. One-byte
arrays are one plane as they are.

The coder is the Huffman stage of zstd. Its match finder is kept from finding anything: on exponents a match costs more
bits than the literals it saves, and most of the time. A plane's stored size tells what it is: exactly one byte per
value means raw, less means one zstd frame.
"""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from fedcore.errors import ProtocolError

_LEAST_GAIN = 32  # a frame must save 1/32 of its plane, or decoding it is not worth the time
_PIECE = 1 << 15  # values worked on at once, so that everything between load and store stays in the cache

# Matches of seven bytes or more, looked for in a table of 64 entries: next to none. target_length must stay 0, for
# zstd's negative levels switch its Huffman stage off; blocks, each with its own table, hold 128 KiB from window 2**17.
_HUFFMAN = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    min_match=7,
    hash_log=6,
    target_length=0,
    window_log=17,
    write_checksum=False,
    write_content_size=True,
)
_CONTEXTS = threading.local()  # making a context takes as long as coding 30 kB; reuse changes no byte


def split_planes(values: NDArray[Any]) -> list[bytes]:
    """Return one stored plane per byte position of `values`, least significant first; none exceeds its raw size.

    `values` is an array of 1-, 2- or 4-byte numbers, whose bits are what is coded.
    """
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).reshape(-1).view(f"<u{width}")
    planes = _rotated(bits) if width > 1 else bits[None, :]
    return [_smaller(plane) for plane in planes]


def join_planes(
    data: memoryview, sizes: Sequence[int], *, count: int, dtype: str, rotated: bool = True
) -> NDArray[Any]:
    """Return the `count` values, 1-d, whose stored planes follow each other in `data` with the given byte sizes.

    `rotated` False reads planes of unrotated bits, as they were once written. Nothing larger than the result is
    allocated. Raises ProtocolError where sizes do not fit `data` and `dtype`, or a frame is damaged or declares
    another length.
    """
    width = np.dtype(dtype).itemsize
    if len(sizes) != width or any(not 0 <= size <= count for size in sizes) or sum(sizes) != len(data):
        raise ProtocolError(
            f"byte planes: expected {width} sizes of at most {count} bytes adding up to {len(data)}, got {list(sizes)}"
        )
    planes, start = [], 0
    for size in sizes:
        stored = data[start : start + size]
        planes.append(np.frombuffer(stored if size == count else _decompressed(stored, count), dtype=np.uint8))
        start += size
    return planes[0].view(dtype) if width == 1 else _joined(planes, rotated=rotated).view(dtype)


def _rotated(bits: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the planes of `bits` rotated left by one. Shape: (width, values)."""
    width = bits.dtype.itemsize
    planes = np.empty((width, bits.size), dtype=np.uint8)
    for low in range(0, bits.size, _PIECE):
        part = slice(low, low + _PIECE)
        turned = bits[part] << 1
        turned |= bits[part] >> (8 * width - 1)
        for index in range(width):
            np.copyto(planes[index, part], turned >> (8 * index), casting="unsafe")  # keeps the lowest byte
    return planes


def _joined(planes: Sequence[NDArray[np.uint8]], *, rotated: bool) -> NDArray[Any]:
    """Return the unsigned integers behind their planes, least significant first."""
    width, count = len(planes), planes[0].size
    values = np.empty(count, dtype=f"<u{width}")
    for low in range(0, count, _PIECE):
        part = slice(low, low + _PIECE)
        bits = planes[-1][part].astype(values.dtype)
        for plane in planes[-2::-1]:
            bits <<= 8
            bits |= plane[part]
        if rotated:
            np.right_shift(bits, 1, out=values[part])
            bits <<= 8 * width - 1
            values[part] |= bits
        else:
            values[part] = bits
    return values


def _smaller(plane: NDArray[np.uint8]) -> bytes:
    frame: bytes = _compressor().compress(plane.data)
    return frame if len(frame) < plane.size - plane.size // _LEAST_GAIN else plane.tobytes()


def _decompressed(frame: memoryview, count: int) -> bytes:
    try:
        # the frame's own claim decides what zstd allocates, so it is compared before anything is decompressed
        declared = zstandard.get_frame_parameters(frame).content_size
        if declared != count:
            raise ProtocolError(f"zstd frame declares {declared} bytes where {count} were expected; encode again")
        plane: bytes = _decompressor().decompress(frame, max_output_size=count, allow_extra_data=False)
    except zstandard.ZstdError as cause:
        raise ProtocolError(f"damaged zstd frame ({cause}); encode and send again") from None
    if len(plane) != count:
        raise ProtocolError(f"zstd frame holds {len(plane)} bytes where {count} were expected; encode again")
    return plane


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's own: contexts must not be shared between threads."""
    if not hasattr(_CONTEXTS, "compressor"):
        _CONTEXTS.compressor = zstandard.ZstdCompressor(compression_params=_HUFFMAN)
    made: zstandard.ZstdCompressor = _CONTEXTS.compressor
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    """Return this thread's own."""
    if not hasattr(_CONTEXTS, "decompressor"):
        _CONTEXTS.decompressor = zstandard.ZstdDecompressor()
    made: zstandard.ZstdDecompressor = _CONTEXTS.decompressor
    return made
