"""Label offsets: constants on a classifier's outputs, found after training where devices lack labels.

Where most rows of a fleet lie on devices of few labels, the model learns to tell labels apart (AUC .9), but the
threshold between them drifts with the devices that trained last, and differently in every pruned model (accuracy .35,
macro-F1 .26). Some held-back rows of every label set it right: with z the outputs less their mean over labels,

    offset_k = - strength * mean over labels y of (mean over rows of label y of z_k)

so that no label is preferred over rows in which labels weigh alike. The strength is the one of STRENGTHS with the best
macro-F1 on these rows, the largest of equals. The rows are a small part of all, set aside: figures are of the others.
Measured: docs/log/2026-12.md.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.label_prior import balanced_shares
from fedcore.core.data.label_votes import one_sidedness, rows_by_label
from fedcore.core.data.metrics import measure

LACKING = 0.25  # share of a fleet's rows on one-sided devices from which on offsets are found
SHARE = 8  # of the rows of a label, one in so many is set aside
MOST_ROWS = 32  # of a label that are set aside
STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)

Floats = NDArray[np.float64]


def lacks_labels(devices: Iterable[Mapping[str, int]]) -> bool:
    """Whether devices with these training rows by label leave each other's thresholds adrift.

    They do where the mean of their one-sidedness (fedcore.core.data.label_votes), by rows, is LACKING or more.
    """
    counted = [device for device in devices if any(device.values())]
    labels = {label for device in counted for label in device}
    if len(labels) < 2:
        return False
    counts = rows_by_label(counted, labels)
    fleet = counts.sum(axis=0)
    sides = one_sidedness(balanced_shares(counts, fleet), balanced_shares(fleet[None], fleet)[0])
    return float(np.average(sides, weights=counts.sum(axis=1))) >= LACKING


def rows_apart(targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows, (rows,), set the offsets: one in SHARE of every label, MOST_ROWS at most, evenly spread."""
    apart = np.zeros(len(targets), dtype=bool)
    for label in np.unique(targets):
        (rows,) = np.nonzero(targets == label)
        chosen = min(MOST_ROWS, len(rows) // SHARE)
        apart[rows[np.linspace(0, len(rows) - 1, chosen).round().astype(np.int64)]] = True
    return apart


def label_offsets(outputs: NDArray[np.float32], targets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return what to add to a classifier's outputs, (labels,) with a sum of 0, from those of rows set aside.

    `outputs` are (rows, labels). Zeros where fewer than two labels have rows, or where nothing would be better.
    """
    present = np.unique(targets)
    if len(present) < 2:
        return np.zeros(outputs.shape[1], dtype=np.float32)
    centred = outputs.astype(np.float64) - outputs.mean(axis=1, keepdims=True)
    whole: Floats = -np.mean([centred[targets == label].mean(axis=0) for label in present], axis=0)
    scores = [
        measure((centred + strength * whole).astype(np.float32), targets).figures["macro_f1"] for strength in STRENGTHS
    ]
    best = STRENGTHS[int(np.argmax([score or 0.0 for score in scores]))]  # the first of equals
    offsets: NDArray[np.float32] = (best * whole).astype(np.float32)
    return offsets
