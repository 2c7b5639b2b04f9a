"""Sums that do not depend on their order: float values rounded to 64-bit integers, then added.

A value v is rounded to q = round(v * 2**33), ties to even, and enters the sum as weight * q. Integer addition is
associative and commutative, so any order, grouping or retry gives the same bits.

No overflow. A float32 with |v| < 2**6 has |v| <= 2**6 - 2**-18 (24 significant bits), and v * 2**33 is exact in
float64, so |q| <= 2**39 - 2**15. With a total weight W <= 2**24 every partial sum is at most
2**24 * (2**39 - 2**15) = 2**63 - 2**39 < 2**63 in absolute value. Values of float64 must keep the same bound.

Error. |q * 2**-33 - v| <= 2**-34, hence the weighted mean of q * 2**-33 is within 2**-34 of the exact weighted mean of
v, whatever the number of terms. A value with |v| >= 2**-10 or one that is a multiple of 2**-33 is represented exactly.

How. With M = 1.5 * 2**19 the float64 sum v + M has no bits below 2**-33: the addition itself rounds to nearest even,
and the sum's bit pattern, read as an integer, is q + BIAS. Three passes over a block in the cache then give
weight * (q + BIAS). Integers wrap modulo 2**64, so W * BIAS may be subtracted at any later time (`unbias`), also once
for a whole sum. The result is the exact total, and the bound above keeps that from wrapping.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.update import MAX_ABS_VALUE, peak
from fedcore.core.errors import UpdateRejected

FRACTION_BITS = 33
SCALE = 2.0**FRACTION_BITS
MAX_TOTAL_WEIGHT = 2**24
MAX_INTEGER = 2**39 - 2**15  # of one rounded value, see above
MAX_REPRESENTED = 2.0**6 - 2.0**-18  # the largest float32 below 2**6, and the bound of a float64
MEAN_ERROR_BOUND = 2.0**-34  # absolute, of a weighted mean before it is rounded to float
BLOCK_VALUES = 1 << 15  # 256 KiB of scratch, which stays in the second-level cache
ROW_VALUES = 1 << 10  # of each of many rows that are added at once

_MAGIC = 1.5 * 2.0 ** (52 - FRACTION_BITS)
_BIAS = int(np.float64(_MAGIC).view(np.int64))
_MODULUS = 1 << 64

Values = NDArray[np.float32] | NDArray[np.float64]


def check_bounds(values: Values) -> None:
    """Raise UpdateRejected for NaN or a value of 2**6 or more in absolute value; allocates nothing."""
    if not peak(values) <= MAX_REPRESENTED:
        raise UpdateRejected(
            f"expected finite increments below {MAX_ABS_VALUE:g} in absolute value, got {values.min()} to "
            f"{values.max()}; verify updates before folding them"
        )


def biased_integers(scratch: NDArray[np.float64], weight: int) -> NDArray[np.int64]:
    """Turn float64 values, |values| < 2**6, into weight * (q + BIAS) modulo 2**64, in the same memory."""
    scratch += _MAGIC
    integers: NDArray[np.int64] = scratch.view(np.int64)
    integers *= weight
    return integers


def add_biased_rows(total: NDArray[np.int64], rows: Values, weights: NDArray[np.int64]) -> None:
    """Add weights[k] * (q_k + BIAS) of every row k of `rows` (k, n), |values| < 2**6, into `total` (n,), modulo 2**64.

    The result equals adding row by row, in any order. It works on one block of rows at a time, which stays in the cache
    with its sums.
    """
    width = min(rows.shape[1], ROW_VALUES)
    height = BLOCK_VALUES // max(1, width)
    scratch = np.empty(height * width, dtype=np.float64)
    for column in range(0, rows.shape[1], ROW_VALUES):
        sums = total[column : column + ROW_VALUES]  # (width,)
        for top in range(0, rows.shape[0], height):
            block = rows[top : top + height, column : column + ROW_VALUES]  # (height, width)
            shifted = scratch[: block.size].reshape(block.shape)
            np.add(block, _MAGIC, out=shifted, dtype=np.float64)
            # One pass that multiplies and adds; NumPy's matmul of integers takes three times as long (measured).
            sums += np.einsum("k,kn->n", weights[top : top + height], shifted.view(np.int64))


def unbias(integers: NDArray[np.int64], weight: int) -> None:
    """Subtract the bias of a total `weight` from sums of biased integers, in place."""
    offset = _BIAS * weight % _MODULUS
    integers -= offset - _MODULUS if offset >= _MODULUS // 2 else offset


def weighted_integers(values: Values, weight: int) -> NDArray[np.int64]:
    """Return weight * round(values * 2**33), ties to even, for |values| < 2**6 and weight in [1, 2**24].

    Raises UpdateRejected for NaN or a value outside the bound.
    """
    check_bounds(values)
    integers = biased_integers(np.array(values, dtype=np.float64), weight)
    unbias(integers, weight)
    return integers


def add_weighted(total: NDArray[np.int64], values: Values, weight: int) -> None:
    """Add weight * round(values * 2**33) into the matrix `total` of the same shape, in place and block by block.

    Raises UpdateRejected for values outside the bound.
    """
    step = max(1, BLOCK_VALUES // max(1, values.shape[1]))
    for start in range(0, values.shape[0], step):
        total[start : start + step] += weighted_integers(values[start : start + step], weight)


def stepped(
    before: NDArray[np.float32], total: NDArray[np.int64], *, weight: int, server_lr: float
) -> NDArray[np.float32]:
    """Return float32(before + server_lr * total / (weight * 2**33)), computed in float64; `weight` in [1, 2**24].

    A value with a total of 0 keeps its bits (even a negative zero).
    """
    after = np.array(before, dtype=np.float32)
    flat, sums = after.reshape(-1), total.reshape(-1)
    for start in range(0, flat.size, BLOCK_VALUES):
        block, ints = flat[start : start + BLOCK_VALUES], sums[start : start + BLOCK_VALUES]
        exact = ints.astype(np.float64)
        exact /= weight * SCALE
        exact *= server_lr
        exact += block
        np.copyto(block, exact.astype(np.float32), where=ints != 0)
    return after
