"""The check that a device's group scores fit its assigned keep-set."""

import itertools

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet


def verify_scores(scores: GroupScores, keep_set: KeepSet) -> None:
    """Raise UpdateRejected unless there is one finite, non-negative score for every kept group.

    Influences of layers may be missing.
    """
    if scores.layers is not None:
        _verify("influences of layers", scores.layers, len(keep_set.layers))
    for kind, rows, kept in (
        ("head", scores.heads, keep_set.heads),
        ("channel", scores.channels, keep_set.channels),
    ):
        for layer, (row, groups) in enumerate(itertools.zip_longest(rows, kept)):
            _verify(f"{kind} scores of layer {layer}", row, None if groups is None else len(groups))


def _verify(what: str, row: NDArray[np.float32] | None, size: int | None) -> None:
    if row is None or size is None or np.shape(row) != (size,):
        got = "none" if row is None else str(np.shape(row))
        raise UpdateRejected(f"{what}: expected shape {'none' if size is None else f'({size},)'}, got {got}")
    if not np.all(np.isfinite(row)) or np.any(row < 0):
        raise UpdateRejected(f"{what}: expected finite values of 0 or more")
