"""What devices returned, as the published methods see it: factors, not increments, in a layer's full coordinates.

Device k was handed the prefix B0 = B[:, :r_k], A0 = A[:r_k] and sent increments, so it ended with B_k = B0 + dB_k and
A_k = A0 + dA_k. The methods know no pruning. Here rows or columns that a device's keep-set does not hold stay as they
were handed out, in its factors and in its product: pruning erases nothing, and a device moves only what it holds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.factor_stack import LeafFactors

Wide = NDArray[np.float64]


def returned_factors(b: Wide, a: Wide, leaf: LeafFactors) -> tuple[Wide, Wide]:
    """Return B_k (out, r_k) and A_k (r_k, in) of a leaf that was handed prefixes of b (out, R) and a (R, in)."""
    rank = leaf.da.shape[0]
    b_k, a_k = b[:, :rank].copy(), a[:rank].copy()
    b_k[slice(None) if leaf.at.b_rows is None else leaf.at.b_rows] += leaf.db
    a_k[:, slice(None) if leaf.at.a_columns is None else leaf.at.a_columns] += leaf.da
    return b_k, a_k


def returned_product(b: Wide, a: Wide, leaf: LeafFactors) -> tuple[Wide, Wide]:
    """Return factors of the product a leaf ended with: B_k and A_k, beside them B0 and A0 for what it does not hold.

    Stacked rank: r_k, twice that where the leaf has a mask.
    """
    b_k, a_k = returned_factors(b, a, leaf)
    if leaf.at.b_rows is None and leaf.at.a_columns is None:
        return b_k, a_k
    rank = leaf.da.shape[0]
    b_0, a_0 = b[:, :rank].copy(), a[:rank].copy()
    if leaf.at.b_rows is not None:
        b_0[leaf.at.b_rows] = 0
        b_k[np.delete(np.arange(len(b)), leaf.at.b_rows)] = 0
    if leaf.at.a_columns is not None:
        a_0[:, leaf.at.a_columns] = 0
        a_k[:, np.delete(np.arange(a.shape[1]), leaf.at.a_columns)] = 0
    return np.concatenate([b_k, b_0], axis=1), np.concatenate([a_k, a_0], axis=0)


def stacked_mean(
    b: Wide, a: Wide, products: Sequence[tuple[Wide, Wide]], weights: Sequence[float | Wide], *, server_lr: float
) -> tuple[Wide, Wide]:
    """Return (B~, A~) whose product is b @ a + server_lr * (sum of weights times returned products - b @ a).

    A weight is one number for a device or one for each of its components. `server_lr` other than 1 needs R more.
    """
    lefts = [server_lr * weight * b_k for (b_k, _), weight in zip(products, weights, strict=True)]
    rights = [a_k for _, a_k in products]
    if server_lr != 1:
        lefts, rights = [(1 - server_lr) * b, *lefts], [a, *rights]
    return np.concatenate(lefts, axis=1), np.concatenate(rights, axis=0)
