"""Blockwise integers: every block of values shares one float32 scale, the smallest that reaches its largest value.

With T = 127 (int8) or 7 (int4) and a block's largest absolute value m, the scale is s = m / T rounded up to a float32,
and x is stored as the integer q nearest to x / s, ties to even: |q| <= T, and the decoder's q s is within
s (1/2 + 2**-16) of x; the small part is the rounding of quotient and product. Zeros stay exact (the sign of zero is
lost), subnormal blocks keep the same bound. A block with NaN, infinity or a value above 2**127 becomes NaN as a whole:
a broken update must not turn finite on the wire, so that verification refuses it.

Block scales: Dettmers et al. 2021, "8-bit Optimizers via Block-wise Quantization" (arXiv 2110.02861); rounding here is
deterministic and the levels are evenly spaced.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.formats import Floats, Layout

LARGEST = 2.0**127  # above it, T times the scale could overflow
BLOCKS: Mapping[int, int] = {8: 128, 4: 64}  # default block by bits: 8.25 and 4.5 bits per value
BLOCK_RANGE = (8, 65536)
_PIECE = 1 << 15  # values processed at once, so that all intermediate arrays stay in the cache

Codes = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """Signed integers of `bits` (8, or 4 with two to a byte, the earlier one low) in blocks of `block` values."""

    bits: int
    block: int
    lossless: bool = False

    @property
    def word(self) -> str:
        """Its name in a codec."""
        return f"int{self.bits}:{self.block}"

    @property
    def top(self) -> int:
        """The largest integer, T."""
        return (1 << (self.bits - 1)) - 1

    def layout(self, count: int) -> Layout:
        """Return the layout: integers, then one scale per block."""
        stored = ("i1", count) if self.bits == 8 else ("u1", -(-count // 2))
        return stored, ("<f4", -(-count // self.block))

    def store(self, values: Floats) -> tuple[NDArray[Any], ...]:
        """Return integers and scales of 1-d `values`."""
        codes = np.empty(values.size, dtype="i1")
        scales = np.empty(-(-values.size // self.block), dtype="<f4")
        for part, blocks in _pieces(values.size, self.block):
            _quantize(values[part], codes[part], scales[blocks], self)
        return (codes if self.bits == 8 else _nibbles(codes)), scales

    def load(self, arrays: Sequence[NDArray[Any]], count: int) -> Floats:
        """Return integer times scale of every value."""
        stored, scales = arrays
        codes = stored if self.bits == 8 else _integers(stored)
        values = np.empty(count, dtype="<f4")
        with np.errstate(all="ignore"):  # received scales may be any bits
            for part, blocks in _pieces(count, self.block):
                piece = values[part]
                whole = piece.size // self.block * self.block
                rows = piece[:whole].reshape(-1, self.block)
                piece[...] = codes[part]
                rows *= scales[blocks][: len(rows), None]
                piece[whole:] *= scales[blocks][len(rows) :].sum()  # one scale, or none for no value
        return values


def _pieces(count: int, block: int) -> list[tuple[slice, slice]]:
    """Return (values, blocks) of pieces that begin with a block; only the last may end inside one."""
    blocks = max(1, _PIECE // block)
    return [
        (slice(low * block, min((low + blocks) * block, count)), slice(low, low + blocks))
        for low in range(0, -(-count // block), blocks)
    ]


def _quantize(values: Floats, codes: Codes, scales: Floats, quantizer: Quantizer) -> None:
    """Fill integers and scales of a piece."""
    whole = values.size // quantizer.block * quantizer.block
    rows = values[:whole].reshape(-1, quantizer.block)
    _quantize_rows(rows, codes[:whole].reshape(rows.shape), scales[: len(rows)], quantizer.top)
    if whole < values.size:
        _quantize_rows(values[None, whole:], codes[None, whole:], scales[len(rows) :], quantizer.top)


def _quantize_rows(rows: Floats, codes: Codes, scales: Floats, top: int) -> None:
    peaks = np.maximum(rows.max(axis=1, initial=0.0), -rows.min(axis=1, initial=0.0))
    broken = ~(peaks <= LARGEST)  # written so that NaN counts as broken
    with np.errstate(all="ignore"):
        np.divide(peaks, np.float32(top), out=scales)
        short = scales * np.float32(top) < peaks
        scales[short] = np.nextafter(scales[short], np.float32(np.inf))
        quotients = rows / np.where(scales > 0, scales, np.float32(1))[:, None]
        np.rint(quotients, out=quotients)
        np.copyto(codes, quotients, casting="unsafe")
    if broken.any():
        codes[broken], scales[broken] = 0, np.nan


def _nibbles(codes: Codes) -> NDArray[np.uint8]:
    """Return two integers of [-8, 7] per byte, the earlier one in the low half."""
    bits = codes.view(np.uint8)
    packed: NDArray[np.uint8] = bits[0::2] & np.uint8(15)
    packed[: codes.size // 2] |= bits[1::2] << 4
    return packed


def _integers(packed: NDArray[np.uint8]) -> Codes:
    """Return the inverse of `_nibbles`, with a zero after an odd number of integers."""
    halves = packed.view(np.int8)
    codes = np.empty(2 * packed.size, dtype="i1")
    np.right_shift(np.left_shift(halves, 4), 4, out=codes[0::2])
    np.right_shift(halves, 4, out=codes[1::2])
    return codes
