"""Zstandard frames for planes or for text. The reader does not trust the size that a frame declares."""

import threading

import zstandard

from fedcore.core.errors import ProtocolError

# The Huffman stage alone. With matches of seven bytes or more and a table of 64 entries, zstd finds almost no match: on
# exponents, matches cost more bits than the literals they save, and most of the time. target_length must stay 0: zstd's
# negative levels switch its Huffman stage off. From window 2**17 on, a block, with a table of its own, holds 128 KiB.
_HUFFMAN = zstandard.ZstdCompressionParameters(
    strategy=zstandard.STRATEGY_FAST,
    min_match=7,
    hash_log=6,
    target_length=0,
    window_log=17,
    write_checksum=False,
    write_content_size=True,
)
_TEXT_LEVEL = 3
_CONTEXTS = threading.local()  # making a context takes as long as coding 30 kB; reuse changes no byte


def huffman_frame(data: bytes | memoryview) -> bytes:
    """Return a frame for bytes with unequal frequencies and no meaning in their order."""
    if not hasattr(_CONTEXTS, "compressor"):  # one per thread: they must not be shared
        _CONTEXTS.compressor = zstandard.ZstdCompressor(compression_params=_HUFFMAN)
    frame: bytes = _CONTEXTS.compressor.compress(data)
    return frame


def text_frame(data: bytes) -> bytes:
    """Return a frame for bytes that repeat themselves."""
    return zstandard.ZstdCompressor(level=_TEXT_LEVEL, write_checksum=False).compress(data)


def declared_bytes(frame: memoryview) -> int:
    """Return the size that a frame declares, 2**64 - 1 where it declares none; raises ProtocolError for no frame."""
    try:
        return zstandard.get_frame_parameters(frame).content_size
    except zstandard.ZstdError as cause:
        raise _damaged(cause) from None


def opened(frame: memoryview, size: int) -> bytes:
    """Return the `size` bytes in a frame; raises ProtocolError for any other size, before anything is allocated."""
    declared = declared_bytes(frame)
    if declared != size:
        raise ProtocolError(f"zstd frame declares {declared} bytes where {size} were expected; encode again")
    if not hasattr(_CONTEXTS, "decompressor"):
        _CONTEXTS.decompressor = zstandard.ZstdDecompressor()
    try:
        data: bytes = _CONTEXTS.decompressor.decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as cause:
        raise _damaged(cause) from None
    if len(data) != size:
        raise ProtocolError(f"zstd frame holds {len(data)} bytes where {size} were expected; encode again")
    return data


def _damaged(cause: Exception) -> ProtocolError:
    return ProtocolError(f"damaged zstd frame ({cause}); encode and send again")
