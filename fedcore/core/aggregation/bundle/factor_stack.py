"""The sum of many low-rank increments as one pair of stacked factors, without any dense matrix.

A layer has the global product G = B A. Device k held the prefix B0 = D_k B[:, :r_k], A0 = A[:r_k], where D_k selects
the rows that it keeps, and now has B1 = B0 + dB, A1 = A0 + dA. The next product is

    G' = G + eta * sum_k p_k D_k^T (B1 A1 - B0 A0)

The subtracted terms are prefixes of B A, masked on one side, so they go into G's own block:

    B~ = [ B - eta * sum_k p_k D_k^T D_k B P_k | eta p_1 D_1^T B1_1 | eta p_2 D_2^T B1_2 | ... ]
    A~ = [ A ; A1_1 ; A1_2 ; ... ]                 with P_k the projection on the first r_k components

Where a layer is cut on its input side, mask and weight are on A instead. Stacked rank: R + sum_k r_k.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.placing import Placement
from fedcore.core.model.geometry import Side

F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFactors:
    """One device's increments of one layer: da (r, kept in), db (kept out, r); `share` is its weight in (0, 1]."""

    share: float
    da: NDArray[np.float32]
    db: NDArray[np.float32]
    at: Placement


def stacked_factors(
    b: NDArray[F], a: NDArray[F], updates: Sequence[UpdateFactors], *, side: Side, server_lr: float
) -> tuple[NDArray[F], NDArray[F]]:
    """Return (B~, A~) of shapes (out, R + sum r_k) and (R + sum r_k, in), in the dtype of `b` (out, R) and `a` (R, in).

    B~ @ A~ equals b @ a + server_lr * sum of shares times increments. `side` is where the layer is cut ("out" where it
    is not). All updates, masked or not, subtract on this one side; otherwise cross terms would appear.
    """
    server_rank = a.shape[0]
    width = server_rank + sum(update.da.shape[0] for update in updates)
    wide_b, wide_a = np.zeros((b.shape[0], width), dtype=b.dtype), np.zeros((width, a.shape[1]), dtype=a.dtype)
    wide_b[:, :server_rank], wide_a[:server_rank] = b, a
    start = server_rank
    for update in updates:
        rank = update.da.shape[0]
        block, step = slice(start, start + rank), b.dtype.type(server_lr * update.share)
        rows = slice(None) if update.at.b_rows is None else update.at.b_rows
        columns = slice(None) if update.at.a_columns is None else update.at.a_columns
        b_before, a_before = b[rows, :rank], a[:rank, columns]  # (kept out, r), (r, kept in)
        b_after, a_after = b_before + update.db, a_before + update.da
        if side == "out":
            wide_b[rows, block], wide_a[block] = step * b_after, a_after
            wide_b[rows, :rank] -= step * b_before
        else:
            wide_b[:, block], wide_a[block, columns] = b_after, step * a_after
            wide_a[:rank, columns] -= step * a_before
        start += rank
    return wide_b, wide_a
