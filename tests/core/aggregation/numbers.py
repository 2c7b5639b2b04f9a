"""Layers with exact small numbers, for tests of a rule's formula."""

import numpy as np

from fedcore.core.aggregation.bundle.bundling import Layer
from fedcore.core.aggregation.bundle.factor_stack import UpdateFactors
from fedcore.core.aggregation.sums.placing import Placement

# What was handed out: rank 2, out 3, in 2.
B = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
A = np.array([[1.0, 2.0], [0.0, 1.0]])
# What two devices of ranks 1 and 2 ended with, and their shares.
B_1, A_1 = np.array([[2.0], [0.0], [1.0]]), np.array([[1.0, 1.0]])
B_2, A_2 = np.array([[1.0, 1.0], [0.0, 2.0], [0.0, 1.0]]), np.array([[2.0, 2.0], [1.0, 0.0]])
SHARES = (0.25, 0.75)


def device_update(b_k: np.ndarray, a_k: np.ndarray, share: float, *, at: Placement | None = None) -> UpdateFactors:
    """The update of a device that was handed prefixes of B and A and ended with b_k and a_k."""
    rank = a_k.shape[0]
    at = at or Placement()
    rows = slice(None) if at.b_rows is None else at.b_rows
    db, da = b_k - B[rows, :rank], a_k - A[:rank]
    return UpdateFactors(share=share, da=da.astype(np.float32), db=db.astype(np.float32), at=at)


def layer(*updates: UpdateFactors, server_lr: float = 1.0) -> Layer:
    """The end of a round in which B and A were handed out; of two devices where none are given."""
    updates = updates or (device_update(B_1, A_1, SHARES[0]), device_update(B_2, A_2, SHARES[1]))
    return Layer(
        b=B, a=A, updates=updates, mean_increment=None, side="out", server_lr=server_lr, rng=np.random.default_rng(0)
    )
