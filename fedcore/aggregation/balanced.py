"""Factors of a product at a smaller rank: U sqrt(S) and sqrt(S) V^T, signs fixed, empty components made learnable.

A prefix of these factors is the best approximation of its rank (Eckart and Young 1936), which is what makes a
hand-out of rank r a plain slice.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Balanced(Generic[F]):
    """b (out, rank), a (rank, in), and squared Frobenius norms of the product and of what b @ a leaves out."""

    b: NDArray[F]
    a: NDArray[F]
    energy: float
    dropped: float


def balanced_factors(
    b: NDArray[F], a: NDArray[F], *, rank: int, tolerance: float, rng: np.random.Generator
) -> Balanced[F]:
    """Return balanced factors of `b @ a`, b (out, n) and a (n, in), truncated to `rank` and padded up to it.

    Components with a singular value of at most `tolerance` times the largest count as empty: they get B = 0 and a
    row of A from U(-1/sqrt(in), 1/sqrt(in)), as a fresh adapter has, so that they can learn.
    """
    u, s, vt = _thin_svd(b, a)
    energy = s.astype(np.float64) ** 2
    live = int(np.count_nonzero(s[:rank] > tolerance * s[0]))
    u, root, vt = u[:, :live], np.sqrt(s[:live]), vt[:live]
    if live:
        pivots = np.argmax(np.abs(u), axis=0)
        signs = np.where(u[pivots, np.arange(live)] < 0, -1, 1).astype(b.dtype)
        u, vt = u * signs, vt * signs[:, None]
    new_b, new_a = np.zeros((b.shape[0], rank), dtype=b.dtype), np.empty((rank, a.shape[1]), dtype=a.dtype)
    new_b[:, :live], new_a[:live] = u * root, vt * root[:, None]
    bound = 1.0 / np.sqrt(a.shape[1])
    new_a[live:] = rng.uniform(-bound, bound, (rank - live, a.shape[1]))
    return Balanced(b=new_b, a=new_a, energy=float(energy.sum()), dropped=float(energy[live:].sum()))


def _thin_svd(b: NDArray[F], a: NDArray[F]) -> tuple[NDArray[F], NDArray[F], NDArray[F]]:
    if b.shape[1] >= min(b.shape[0], a.shape[1]):
        u, s, vt = np.linalg.svd(b @ a, full_matrices=False)
        return u, s, vt
    q_b, r_b = np.linalg.qr(b)  # (out, n), (n, n)
    q_a, r_a = np.linalg.qr(a.T)  # (in, n), (n, n)
    u, s, vt = np.linalg.svd(r_b @ r_a.T)
    return q_b @ u, s, vt @ q_a.T
