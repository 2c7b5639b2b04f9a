"""Factors of a product at a smaller rank: U sqrt(S) and sqrt(S) V^T, signs fixed, empty components made learnable.

With `values_in_b` they are U S and V^T, as in FlexLoRA. In both forms a prefix of the factors is the best approximation
of its rank (Eckart and Young 1936), so the download of a device of rank r is a plain slice.
"""

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)
_Leading: TypeAlias = tuple[NDArray[F], NDArray[F], NDArray[F], float]  # U, S, V^T, and the squared norm left out

DENSE_FROM = 0.6  # of the short side: from this stacked rank on, one dense matrix is cheaper than the stack (measured)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balanced(Generic[F]):
    """b (out, rank), a (rank, in), and squared Frobenius norms of the product and of what b @ a leaves out."""

    b: NDArray[F]
    a: NDArray[F]
    energy: float
    dropped: float


def balanced_factors(
    b: NDArray[F], a: NDArray[F], *, rank: int, tolerance: float, rng: np.random.Generator, values_in_b: bool = False
) -> Balanced[F]:
    """Return balanced factors of `b @ a`, b (out, n) and a (n, in), truncated to `rank` and padded up to it.

    With `values_in_b` the new b holds the singular values, and the rows of the new a are orthonormal.

    Components with a singular value of at most `tolerance` times the largest count as empty. They get B = 0
    and a row of A from U(-1/sqrt(in), 1/sqrt(in)), as in a fresh adapter, so that they can learn.
    """
    wide = b.shape[1] >= DENSE_FROM * min(b.shape[0], a.shape[1])
    leading = _svd_of_matrix(b @ a, rank) if wide else _svd_of_factors(b, a, rank)
    return _balanced(leading, rank=rank, tolerance=tolerance, rng=rng, values_in_b=values_in_b)


def balanced_matrix(matrix: NDArray[F], *, rank: int, tolerance: float, rng: np.random.Generator) -> Balanced[F]:
    """Return balanced factors of `matrix` (out, in), truncated and padded like those of a product."""
    return _balanced(_svd_of_matrix(matrix, rank), rank=rank, tolerance=tolerance, rng=rng)


def _balanced(
    leading: _Leading[F], *, rank: int, tolerance: float, rng: np.random.Generator, values_in_b: bool = False
) -> Balanced[F]:
    u, s, vt, rest = leading
    out, into, kind = u.shape[0], vt.shape[1], u.dtype
    squares = s.astype(np.float64) ** 2
    live = int(np.count_nonzero(s > tolerance * s[0]))
    u, vt = u[:, :live], vt[:live]
    left, right = (s[:live], np.ones(live, dtype=kind)) if values_in_b else (np.sqrt(s[:live]), np.sqrt(s[:live]))
    if live:
        pivots = np.argmax(np.abs(u), axis=0)
        signs = np.where(u[pivots, np.arange(live)] < 0, -1, 1).astype(kind)
        u, vt = u * signs, vt * signs[:, None]
    new_b, new_a = np.zeros((out, rank), dtype=kind), np.empty((rank, into), dtype=kind)
    new_b[:, :live], new_a[:live] = u * left, vt * right[:, None]
    bound = 1.0 / np.sqrt(into)
    new_a[live:] = rng.uniform(-bound, bound, (rank - live, into))
    return Balanced(b=new_b, a=new_a, energy=float(squares.sum()) + rest, dropped=float(squares[live:].sum()) + rest)


def _svd_of_factors(b: NDArray[F], a: NDArray[F], rank: int) -> _Leading[F]:
    q_b, r_b = np.linalg.qr(b)  # (out, n), (n, n)
    q_a, r_a = np.linalg.qr(a.T)  # (in, n), (n, n)
    u, s, vt = np.linalg.svd(r_b @ r_a.T)
    rest = float(np.sum(s[rank:].astype(np.float64) ** 2))
    return q_b @ u[:, :rank], s[:rank], vt[:rank] @ q_a.T, rest


def _svd_of_matrix(matrix: NDArray[F], rank: int) -> _Leading[F]:
    """Return the leading SVD from the Gram matrix of the short side, two to five times faster than a full SVD.

    Squaring blurs directions below 1e-8 of the largest singular value, far under what float32 factors hold; the
    values themselves come from an SVD of the projected matrix and are exact to rounding.
    """
    if matrix.shape[0] > matrix.shape[1]:
        u, s, vt, rest = _svd_of_matrix(matrix.T, rank)
        return vt.T, s, u.T, rest
    exact = matrix.astype(np.float64, copy=False)
    basis = np.linalg.eigh(exact @ exact.T)[1][:, ::-1][:, :rank]  # (short, rank), orthonormal, leading first
    projected = basis.T @ exact  # (rank, long)
    q, r = np.linalg.qr(projected.T)
    inner, s64, outer = np.linalg.svd(r.T)
    rest = float(np.sum((exact - basis @ projected) ** 2))
    kind = matrix.dtype
    return (basis @ inner).astype(kind), s64.astype(kind), (outer @ q.T).astype(kind), rest
