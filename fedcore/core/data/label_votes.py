"""Weights under label skew: devices that lack labels pull the fleet towards their own, and their pulls must cancel.

A device of one label lowers its loss by moving every answer towards that label. AdamW takes full steps however small
the gradient is, so the pull does not fade once the label is learned: six one-label devices, four of them of one label,
end with that label as the answer to everything. Gradients in proportion to their size would settle at the fleet's
shares; steps of a fixed size settle only where the pulls on every label cancel. So weights are moved until they do:

    vote_i = c_i (d_i - p) / |d_i - p|_1
    minimise 1/2 |sum_i w_i vote_i|^2 + STIFFNESS/2 sum_i w_i log^2(w_i / start_i)        sum_i w_i = 1

where d_i are the label shares of the device's batches, p are the fleet's, and c_i in [0, 1] says how one-sided the
device is: 1 - (e(d_i) - 1) / (e(p) - 1), e the effective number of labels, exp(entropy). It is 0 for a device with the
fleet's shares, so where every device can draw balanced batches (fedcore.core.data.label_prior) weights stay as they
are, and 1 for a device of one label. Where nothing cancels a pull, the weight shrinks, by a factor of LARGEST_CUT at
most: one device with rows of every label teaches more than many of one label. A weight grows by LARGEST_GAIN at most: a
device of one row must not speak for a label. Measured: docs/log/2026-12.md.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LARGEST_GAIN, LARGEST_CUT = 4.0, 20.0
STIFFNESS = 0.02
MOST_ITERATIONS = 400
SETTLED = 1e-4  # largest change of a weight's logarithm in an iteration
CANCELLED = 1e-9  # sum of squared pulls below which weights stay


def rows_by_label(devices: Sequence[Mapping[str, int]], labels: Iterable[str]) -> Floats:
    """Return the rows of every device by label, (devices, labels), with `labels` sorted; they must be all there are."""
    places = {label: place for place, label in enumerate(sorted(labels))}
    counts = np.zeros((len(devices), len(places)))
    for row, device in enumerate(devices):
        for label, count in device.items():
            counts[row, places[label]] = count
    return counts


def cancelled_votes(weights: Floats, draws: Floats, fleet: Floats) -> Floats:
    """Return the weights, (devices,), moved so that the pulls of one-sided devices cancel; their sum stays.

    `draws` are the label shares of every device's batches, (devices, labels), `fleet` those of all rows, (labels,),
    both with sums of 1. A device whose draws are zeros has no vote.
    """
    votes = _votes(draws, fleet)
    start = weights / weights.sum()
    logs, moved = np.zeros(len(start)), start
    least, most = -math.log(LARGEST_CUT), math.log(LARGEST_GAIN)
    if float(np.square(moved @ votes).sum()) < CANCELLED:
        return weights
    for _ in range(MOST_ITERATIONS):
        after = np.clip(logs - votes @ (moved @ votes) - STIFFNESS * logs, least, most)
        settled = float(np.abs(after - logs).max()) < SETTLED
        logs = after
        moved = start * np.exp(logs)
        moved /= moved.sum()
        if settled:
            break
    result: Floats = moved * weights.sum()
    return result


def one_sidedness(draws: Floats, fleet: Floats) -> Floats:
    """Return c, (devices,), in [0, 1]: 0 for draws as mixed as the fleet's, 1 for those of one label.

    Arguments as in `cancelled_votes`.
    """
    several = _effective_labels(fleet[None])[0] - 1.0
    measure: Floats = np.clip(1.0 - (_effective_labels(draws) - 1.0) / max(several, 1e-9), 0.0, 1.0)
    return measure


def _votes(draws: Floats, fleet: Floats) -> Floats:
    excess = np.where(draws.sum(axis=1, keepdims=True) > 0, draws - fleet, 0.0)
    distance = np.abs(excess).sum(axis=1, keepdims=True)
    votes: Floats = one_sidedness(draws, fleet)[:, None] * excess / np.maximum(distance, 1e-9)
    return votes


def _effective_labels(shares: Floats) -> Floats:
    """Return exp(entropy) of every row of shares: the number of labels in equal shares that are as mixed."""
    logs = np.log(np.where(shares > 0, shares, 1.0))
    labels: Floats = np.exp(-(shares * logs).sum(axis=1))
    return labels
