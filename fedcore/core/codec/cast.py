"""Narrower float formats for the wire: float32, bfloat16 and float16 as little-endian arrays.

bf16 keeps float32's exponent: relative error at most 2**-8 for normal numbers up to 3.38e38; larger ones become
infinity. fp16 keeps 11 significant bits: relative error at most 2**-11 for absolute values in [2**-14, 65504], absolute
error at most 2**-25 below, infinity from 65520 on. Both round to nearest, ties to even, and keep NaN, infinities and
the sign of zero.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.formats import Layout

_FLOAT32 = np.dtype("<f4")
_INFINITY_BITS = 0x7F800000
_QUIET_BIT = 0x0040  # of a bfloat16: a NaN stays a NaN where its payload was in the dropped half
_PIECE = 1 << 15  # values processed at once, so that all intermediate arrays stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A stored format: safetensors dtype tag, numpy dtype of the stored array, and the conversions both ways."""

    word: str
    tag: str
    dtype: str
    narrow: Callable[[NDArray[np.float32]], NDArray[Any]]
    widen: Callable[[NDArray[Any]], NDArray[np.float32]]
    lossless: bool = False

    def layout(self, count: int) -> Layout:
        """Return the layout: one array of `count` values."""
        return ((self.dtype, count),)

    def store(self, values: NDArray[np.float32]) -> tuple[NDArray[Any], ...]:
        """Return the narrowed values."""
        return (np.ascontiguousarray(self.narrow(values)),)

    def load(self, arrays: Sequence[NDArray[Any]], count: int) -> NDArray[np.float32]:
        """Return the widened values."""
        return self.widen(arrays[0])


def to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper 16 bits of float32 `values`, rounded to nearest even; same shape."""
    flat = np.asarray(values, dtype="<f4").reshape(-1)
    halves = np.empty(flat.size, dtype="<u2")
    for low in range(0, flat.size, _PIECE):
        part = slice(low, low + _PIECE)
        bits = flat[part].view("<u4")
        rounded = bits >> 16
        rounded &= 1
        rounded += 0x7FFF
        rounded += bits
        rounded >>= 16
        np.copyto(halves[part], rounded, casting="unsafe")
        with np.errstate(invalid="ignore"):
            broken = np.isnan(flat[part].max())  # NaN where any value is
        if broken:
            nans = (bits & 0x7FFFFFFF) > _INFINITY_BITS
            halves[part][nans] = (bits[nans] >> 16).astype("<u2") | _QUIET_BIT
    return halves.reshape(values.shape)


def from_bf16(halves: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return float32 values of bfloat16 bit patterns; exact, same shape."""
    bits = halves.astype("<u4")
    bits <<= 16
    return bits.view("<f4")


def to_fp16(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return `values` as float16, rounded to nearest even; too large ones become infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return values.astype("<f2")


def _as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    if values.dtype == _FLOAT32:
        return values
    with np.errstate(invalid="ignore"):  # a signalling NaN may come off the wire
        return values.astype("<f4", copy=False)


CASTS: Mapping[str, Cast] = {
    "identity": Cast(word="identity", tag="F32", dtype="<f4", narrow=_as_float32, widen=_as_float32, lossless=True),
    "bf16": Cast(word="bf16", tag="BF16", dtype="<u2", narrow=to_bf16, widen=from_bf16),
    "fp16": Cast(word="fp16", tag="F16", dtype="<f2", narrow=to_fp16, widen=_as_float32),
}
