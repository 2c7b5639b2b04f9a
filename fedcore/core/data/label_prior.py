"""Label skew: what keeps a device from teaching everybody its own label shares.

A device that holds 95 % of one label can lower its loss by shifting every logit towards it, and under an adaptive
optimiser that shift is as large as anybody's lesson. Two remedies, one for what the other cannot reach:

- Balanced batches: rows are drawn so that labels come in the fleet's shares, a row at most MOST times as often as in an
  epoch. A shift of the loss alone would not do: where hardly any row is of another label, gradients are tiny and all
  point one way, and Adam, which takes their size out, makes full steps of them.
- Logit adjustment for the shares that drawing leaves: with log p_drawn(y) - log p_fleet(y) added to the logits during
  training (Menon et al., "Long-tail learning via logit adjustment", ICLR 2021, arXiv 2007.07314, eq. 10; as calibration
  under label skew in federated learning: Zhang et al., ICML 2022, arXiv 2209.00189), the shift is already there, and
  what is left to learn is what tells the labels apart.

On a device with the fleet's shares both change nothing but the order of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import DataError

MOST = 8.0  # times that a row may be drawn in as many draws as there are rows: a single one must not fill the batches


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """How a device trains under label skew; by default as if there were none."""

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

    A label is drawn once at least where the device holds it, and never elsewhere.
    """
    mine, theirs = _counts(local, fleet)
    held = mine > 0
    if not held.any():
        return tuple(int(each) for each in mine)
    shares = _within(np.where(held, theirs + 1, 0.0), MOST * mine / mine.sum())
    draws = np.where(held, np.maximum(1, np.round(shares * mine.sum())), 0)
    return tuple(int(each) for each in draws)


def prior_shift(local: Sequence[int], fleet: Sequence[int]) -> NDArray[np.float32]:
    """Return log p_local - log p_fleet per label, (labels,) float32, from counts of rows.

    Every count is raised by one (Laplace), so a label that a device does not hold gets a finite shift.
    """
    mine, theirs = (each + 1 for each in _counts(local, fleet))
    shift: NDArray[np.float32] = (np.log(mine / mine.sum()) - np.log(theirs / theirs.sum())).astype(np.float32)
    return shift


def _within(wanted: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares in the proportions wanted, none above its `most`, whose sum is more than 1; what is cut off is
    spread over the others."""
    capped = np.zeros(len(wanted), dtype=bool)
    while True:
        rest = np.where(capped, 0.0, wanted)
        shares = np.where(capped, most, rest * (1.0 - most[capped].sum()) / rest.sum())
        over = ~capped & (shares > most)
        if not over.any():
            return shares
        capped |= over


def _counts(local: Sequence[int], fleet: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(local) != len(fleet) or min((*local, *fleet), default=0) < 0:
        raise DataError(f"label counts {list(local)} and {list(fleet)}: expected as many, each 0 or more")
    return np.asarray(local, dtype=np.float64), np.asarray(fleet, dtype=np.float64)
