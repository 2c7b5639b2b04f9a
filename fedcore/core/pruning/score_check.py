"""The check that a device's group scores fit its assigned keep-set."""

import itertools

import numpy as np

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet


def verify_scores(scores: GroupScores, keep_set: KeepSet) -> None:
    """Raise UpdateRejected unless there is one finite, non-negative score for every kept group."""
    for kind, rows, kept in (
        ("head", scores.heads, keep_set.heads),
        ("channel", scores.channels, keep_set.channels),
    ):
        for layer, (row, groups) in enumerate(itertools.zip_longest(rows, kept)):
            if row is None or groups is None or np.shape(row) != (len(groups),):
                got = "none" if row is None else str(np.shape(row))
                wanted = "none" if groups is None else f"({len(groups)},)"
                raise UpdateRejected(f"{kind} scores of layer {layer}: expected shape {wanted}, got {got}")
            if not np.all(np.isfinite(row)) or np.min(row) < 0:
                raise UpdateRejected(f"{kind} scores of layer {layer}: expected finite values of 0 or more")
