"""What devices returned, as the published methods see it: factors, not increments, in a layer's full coordinates.

Device k was handed the prefix B0 = B[:, :r_k], A0 = A[:r_k] and sent increments, so it ended with B_k = B0 + dB_k and
A_k = A0 + dA_k. Rows or columns that its keep-set does not hold stay as they were handed out: these methods know no
masks, and so none of them erases what pruning merely left out.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.aggregation.factor_stack import LeafFactors

Wide = NDArray[np.float64]


def returned_factors(b: Wide, a: Wide, leaf: LeafFactors) -> tuple[Wide, Wide]:
    """Return B_k (out, r_k) and A_k (r_k, in) of a leaf that was handed prefixes of b (out, R) and a (R, in)."""
    rank = leaf.da.shape[0]
    b_k, a_k = b[:, :rank].copy(), a[:rank].copy()
    b_k[slice(None) if leaf.at.b_rows is None else leaf.at.b_rows] += leaf.db
    a_k[:, slice(None) if leaf.at.a_columns is None else leaf.at.a_columns] += leaf.da
    return b_k, a_k


def stacked_mean(
    b: Wide, a: Wide, returned: Sequence[tuple[Wide, Wide]], weights: Sequence[float | Wide], *, server_lr: float
) -> tuple[Wide, Wide]:
    """Return (B~, A~) whose product is b @ a + server_lr * (sum of weights times returned products - b @ a).

    A weight is one number for a device or one for each of its components. Stacked rank: sum r_k, and R more where
    `server_lr` is not 1.
    """
    lefts = [server_lr * weight * b_k for (b_k, _), weight in zip(returned, weights, strict=True)]
    rights = [a_k for _, a_k in returned]
    if server_lr != 1:
        lefts, rights = [(1 - server_lr) * b, *lefts], [a, *rights]
    return np.concatenate(lefts, axis=1), np.concatenate(rights, axis=0)
