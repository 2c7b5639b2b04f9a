"""Label skew: two remedies against a device that teaches the fleet its own label shares.

A device with 95 % of its rows in one label can lower its loss by shifting every logit towards that label. Under an
adaptive optimiser, this shift is as large as any useful increment. The second remedy covers what the first leaves:

- Balanced batches: rows are drawn so that labels come in the fleet's shares, a row at most MOST times as often as in an
  epoch. A shift of the loss alone is not enough: where hardly any row has another label, gradients are tiny and all
  point one way, and Adam, which normalises their size, turns them into full steps.
- Logit adjustment for the shares after drawing: with log p_drawn(y) - log p_fleet(y) added to the logits during
  training (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314, eq. 10; as calibration
  under label skew in federated learning: Zhang et al., ICML 2022, arXiv 2209.00189), the shift is already there, and
  the model learns only what distinguishes the labels.

On a device with the fleet's shares, both change only the order of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import DataError

MOST = 8.0  # most draws of a row, in as many draws as there are rows: a single row must not fill the batches


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """How a device trains under label skew; by default as without skew."""

    shift: NDArray[np.float32] | None = None  # (labels,), added to the logits in the loss
    draws: tuple[int, ...] | None = None  # rows of each label in about as many draws as there are rows; None: all once


def label_plan(local: Sequence[int], fleet: Sequence[int], *, balance: bool) -> LabelPlan:
    """Return the plan of a device from its training rows and the fleet's by label, with balanced batches or without.

    Raises DataError where the two differ in length or a count is negative.
    """
    if not balance:
        return LabelPlan(shift=prior_shift(local, fleet))
    draws = balanced_draws(local, fleet)
    return LabelPlan(shift=prior_shift(draws, fleet), draws=draws)


def balanced_draws(local: Sequence[int], fleet: Sequence[int]) -> tuple[int, ...]:
    """Return how often each label is drawn in about as many draws as the device has rows: in the fleet's shares.

    A label of the device is drawn at least once; a label without rows is never drawn.
    """
    own_rows, fleet_rows = _counts(local, fleet)  # (labels,) each
    present = own_rows > 0
    if not present.any():
        return tuple(int(count) for count in own_rows)
    shares = _within(np.where(present, fleet_rows + 1, 0.0), MOST * own_rows / own_rows.sum())
    draws = np.where(present, np.maximum(1, np.round(shares * own_rows.sum())), 0)
    return tuple(int(count) for count in draws)


def prior_shift(local: Sequence[int], fleet: Sequence[int]) -> NDArray[np.float32]:
    """Return log p_local - log p_fleet per label, (labels,) float32, from counts of rows.

    Every count is raised by one (Laplace), so a label without rows on the device gets a finite shift.
    """
    own_counts, fleet_counts = (rows + 1 for rows in _counts(local, fleet))
    shift: NDArray[np.float32] = (
        np.log(own_counts / own_counts.sum()) - np.log(fleet_counts / fleet_counts.sum())
    ).astype(np.float32)
    return shift


def _within(proportions: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares in these proportions, none above its `most`; the excess is spread over the other shares.

    The sum of `most` must be above 1.
    """
    capped = np.zeros(len(proportions), dtype=bool)
    while True:
        rest = np.where(capped, 0.0, proportions)
        shares = np.where(capped, most, rest * (1.0 - most[capped].sum()) / rest.sum())
        over = ~capped & (shares > most)
        if not over.any():
            return shares
        capped |= over


def _counts(local: Sequence[int], fleet: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(local) != len(fleet) or min((*local, *fleet), default=0) < 0:
        raise DataError(f"label counts {list(local)} and {list(fleet)}: expected as many, each 0 or more")
    return np.asarray(local, dtype=np.float64), np.asarray(fleet, dtype=np.float64)
