"""The factors that devices returned, as the published methods use them: not increments, in full coordinates.

Device k was handed the prefix B0 = B[:, :r_k], A0 = A[:r_k] and sent increments, so it ended with B_k = B0 + dB_k and
A_k = A0 + dA_k. The published methods have no pruning. Here the rows or columns outside a device's keep-set stay as
they were handed out, in its factors and in its product: pruning erases nothing, and a device moves only what it holds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.factor_stack import UpdateFactors

Wide = NDArray[np.float64]


def returned_factors(b: Wide, a: Wide, update: UpdateFactors) -> tuple[Wide, Wide]:
    """Return B_k (out, r_k) and A_k (r_k, in) of a device that was handed prefixes of b (out, R) and a (R, in)."""
    rank = update.da.shape[0]
    b_k, a_k = b[:, :rank].copy(), a[:rank].copy()  # (out, r_k), (r_k, in)
    b_k[slice(None) if update.at.b_rows is None else update.at.b_rows] += update.db
    a_k[:, slice(None) if update.at.a_columns is None else update.at.a_columns] += update.da
    return b_k, a_k


def returned_product(b: Wide, a: Wide, update: UpdateFactors) -> tuple[Wide, Wide]:
    """Return factors of the product that a device ended with: B_k and A_k, and B0 and A0 for what it does not hold.

    The stacked rank is r_k, and 2 r_k where the update has a mask.
    """
    b_k, a_k = returned_factors(b, a, update)
    if update.at.b_rows is None and update.at.a_columns is None:
        return b_k, a_k
    rank = update.da.shape[0]
    b_0, a_0 = b[:, :rank].copy(), a[:rank].copy()
    if update.at.b_rows is not None:
        b_0[update.at.b_rows] = 0
        b_k[np.delete(np.arange(len(b)), update.at.b_rows)] = 0
    if update.at.a_columns is not None:
        a_0[:, update.at.a_columns] = 0
        a_k[:, np.delete(np.arange(a.shape[1]), update.at.a_columns)] = 0
    return np.concatenate([b_k, b_0], axis=1), np.concatenate([a_k, a_0], axis=0)


def stacked_mean(
    b: Wide, a: Wide, products: Sequence[tuple[Wide, Wide]], weights: Sequence[float | Wide], *, server_lr: float
) -> tuple[Wide, Wide]:
    """Return (B~, A~) whose product is b @ a + server_lr * (sum of weights times returned products - b @ a).

    A weight is one number for a device, or one for each of its components. A `server_lr` other than 1 takes R
    components more.
    """
    lefts = [server_lr * weight * b_k for (b_k, _), weight in zip(products, weights, strict=True)]
    rights = [a_k for _, a_k in products]
    if server_lr != 1:
        lefts, rights = [(1 - server_lr) * b, *lefts], [a, *rights]
    return np.concatenate(lefts, axis=1), np.concatenate(rights, axis=0)
