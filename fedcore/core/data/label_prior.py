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

On a device with the fleet's shares, both change only the order of rows. A device of one label trains without the
adjustment, which would leave it next to no gradient: what it knows of its label is all that it can teach. Its pull
towards the label is a matter of its weight (fedcore.core.data.label_votes).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.label_votes import one_sidedness
from fedcore.core.errors import DataError

MOST = 8.0  # most draws of a row, in as many draws as there are rows: a single row must not fill the batches


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """How a device trains under label skew; by default as without skew."""

    shift: NDArray[np.float32] | None = None  # (labels,), added to the logits in the loss
    draws: tuple[int, ...] | None = None  # rows of each label in about as many draws as there are rows; None: all once
    one_sided: float = 0.0  # in [0, 1]: how far steps shrink with the error (fedcore.nn.training.objective)


def label_plan(local: Sequence[int], fleet: Sequence[int], *, balance: bool) -> LabelPlan:
    """Return the plan of a device from its training rows and the fleet's by label, with balanced batches or without.

    Raises DataError where the two differ in length or a count is negative.
    """
    draws = balanced_draws(local, fleet) if balance else None
    drawn = local if draws is None else draws
    one_sided = _one_sided(drawn, fleet)
    if sum(count > 0 for count in local) == 1:
        return LabelPlan(draws=draws, one_sided=one_sided)
    return LabelPlan(shift=prior_shift(drawn, fleet), draws=draws, one_sided=one_sided)


def balanced_draws(local: Sequence[int], fleet: Sequence[int]) -> tuple[int, ...]:
    """Return how often each label is drawn in about as many draws as the device has rows: in the fleet's shares.

    A label of the device is drawn at least once; a label without rows is never drawn.
    """
    own_rows, fleet_rows = _counts(local, fleet)  # (labels,) each
    shares = balanced_shares(own_rows[None], fleet_rows)[0]
    draws = np.where(own_rows > 0, np.maximum(1, np.round(shares * own_rows.sum())), 0)
    return tuple(int(count) for count in draws)


def balanced_shares(local: NDArray[np.float64], fleet: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of labels in the balanced batches of many devices, (devices, labels).

    `local` (devices, labels) and `fleet` (labels,) count rows by label. Shares are the fleet's among the labels that a
    device has, as far as its rows reach; zeros for a device without rows.
    """
    rows = np.maximum(local.sum(axis=1, keepdims=True), 1.0)
    return _within(np.where(local > 0, fleet + 1, 0.0), MOST * local / rows)


def prior_shift(local: Sequence[int], fleet: Sequence[int]) -> NDArray[np.float32]:
    """Return log p_local - log p_fleet per label, (labels,) float32, from counts of rows.

    Every count is raised by one (Laplace), so a label without rows on the device gets a finite shift.
    """
    own_counts, fleet_counts = (rows + 1 for rows in _counts(local, fleet))
    shift: NDArray[np.float32] = (
        np.log(own_counts / own_counts.sum()) - np.log(fleet_counts / fleet_counts.sum())
    ).astype(np.float32)
    return shift


def _one_sided(drawn: Sequence[int], fleet: Sequence[int]) -> float:
    own, every = (rows / max(1.0, rows.sum()) for rows in _counts(drawn, fleet))
    return float(one_sidedness(own[None], every)[0])


def _within(proportions: NDArray[np.float64], most: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return shares in these proportions, none above its `most`; the excess is spread over the other shares.

    Arrays are (devices, labels). The sum of a device's `most` must be above 1, or 0 as its proportions are.
    """
    capped = np.zeros(proportions.shape, dtype=bool)
    while True:
        rest = np.where(capped, 0.0, proportions)
        free = 1.0 - np.where(capped, most, 0.0).sum(axis=1, keepdims=True)
        shares = np.where(capped, most, rest * free / np.maximum(rest.sum(axis=1, keepdims=True), 1.0))
        over = ~capped & (shares > most)
        if not over.any():
            return shares
        capped |= over


def _counts(local: Sequence[int], fleet: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(local) != len(fleet) or min((*local, *fleet), default=0) < 0:
        raise DataError(f"label counts {list(local)} and {list(fleet)}: expected as many, each 0 or more")
    return np.asarray(local, dtype=np.float64), np.asarray(fleet, dtype=np.float64)
