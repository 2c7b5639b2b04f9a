"""Sums that do not depend on their order: float values rounded to 64-bit integers, then added.

A value v is rounded to q = round(v * 2**33), ties to even, and enters the sum as weight * q. Integer addition is
associative and commutative, so any order, grouping or retry gives the same bits.

No overflow. A float32 with |v| < 2**6 has |v| <= 2**6 - 2**-18 (24 significant bits), and v * 2**33 is exact in
float64, so |q| <= 2**39 - 2**15. With a total weight W <= 2**24 every partial sum is at most
2**24 * (2**39 - 2**15) = 2**63 - 2**39 < 2**63 in absolute value.

Error. |q * 2**-33 - v| <= 2**-34, hence the weighted mean of q * 2**-33 is within 2**-34 of the exact weighted mean of
v, whatever the number of terms. A value with |v| >= 2**-10 or one that is a multiple of 2**-33 is represented exactly.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import UpdateRejected
from fedcore.update import MAX_ABS_VALUE

FRACTION_BITS = 33
SCALE = 2.0**FRACTION_BITS
MAX_INTEGER = 2**39 - 2**15  # of one rounded value, see above
MAX_REPRESENTED = 2.0**6 - 2.0**-18  # the largest float32 below 2**6, and the bound of a float64
MAX_TOTAL_WEIGHT = 2**24
MEAN_ERROR_BOUND = 2.0**-34  # absolute, of a weighted mean before it is rounded to float

# Adding 1.5 * 2**52 leaves no fraction bits in a float64, so the addition itself rounds to nearest even and the low
# bits are the integer. Equal to rint + astype for |x| < 2**51, and faster.
_MAGIC = 1.5 * 2.0**52
_MAGIC_BITS = int(np.float64(_MAGIC).view(np.int64))
_BLOCK_VALUES = 1 << 15  # 256 KiB of scratch: stays in the second-level cache


def weighted_integers(values: NDArray[np.float32] | NDArray[np.float64], weight: int) -> NDArray[np.int64]:
    """Return weight * round(values * 2**33), ties to even, for |values| < 2**6 and weight in [1, 2**24].

    Raises UpdateRejected for NaN or a value outside the bound.
    """
    if values.size and not (values.max() <= MAX_REPRESENTED and values.min() >= -MAX_REPRESENTED):
        raise UpdateRejected(
            f"expected finite increments below {MAX_ABS_VALUE:g} in absolute value, got {values.min()} to "
            f"{values.max()}; verify updates before folding them"
        )
    scaled = values.astype(np.float64)
    scaled *= SCALE
    scaled += _MAGIC
    integers: NDArray[np.int64] = scaled.view(np.int64)
    integers -= _MAGIC_BITS
    integers *= weight
    return integers


def add_weighted(
    total: NDArray[np.int64],
    values: NDArray[np.float32] | NDArray[np.float64],
    weight: int,
    *,
    rows: NDArray[np.int64] | None = None,
    columns: NDArray[np.int64] | None = None,
) -> None:
    """Add weight * round(values * 2**33) into the matrix `total`, in place and block by block.

    `values` (m, n) lands on `total[rows][:, columns]`; None stands for all, and at most one of the two is given.
    Indices must not repeat. Raises UpdateRejected for values outside the bound.
    """
    step = max(1, _BLOCK_VALUES // max(1, values.shape[1]))
    for start in range(0, values.shape[0], step):
        block = weighted_integers(values[start : start + step], weight)
        if rows is not None:
            total[rows[start : start + step]] += block
        elif columns is not None:
            total[start : start + step][:, columns] += block
        else:
            total[start : start + step] += block


def stepped(
    before: NDArray[np.float32], total: NDArray[np.int64], *, weight: int, server_lr: float
) -> NDArray[np.float32]:
    """Return float32(before + server_lr * total / (weight * 2**33)), computed in float64; `weight` in [1, 2**24].

    Where the total is 0 the value keeps its bits (even a negative zero).
    """
    after = np.array(before, dtype=np.float32)
    flat, sums = after.reshape(-1), total.reshape(-1)
    for start in range(0, flat.size, _BLOCK_VALUES):
        block, ints = flat[start : start + _BLOCK_VALUES], sums[start : start + _BLOCK_VALUES]
        moved = ints.astype(np.float64)
        moved /= weight * SCALE
        moved *= server_lr
        moved += block
        np.copyto(block, moved.astype(np.float32), where=ints != 0)
    return after
