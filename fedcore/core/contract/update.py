"""A device's update: increments of the adapter that it was handed, in its own coordinates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart, ZeroFilled

MAX_ABS_VALUE = 2.0**6  # bound of one increment; the integer path's overflow proof needs it


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One device's increments (after - before), LoRA scale folded into B.

    Once verified, `tensors` has exactly the names and shapes of `AdapterSpec.shapes(rank, keep_set)`, float32. A
    device sends only the tensors that train (`trains`); verification adds zeros for the others. The mapping may be
    lazy: aggregators read one tensor at a time and each tensor once. Only `verify_update` sets `verified`: an
    aggregator relies on it instead of checking every value again.
    """

    device: str
    round: int
    weight: int
    rank: int
    keep_set: KeepSet
    tensors: Mapping[str, NDArray[np.float32]]
    trains: TrainedPart = EVERYTHING
    verified: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """(device, round)."""
        return self.device, self.round


def verify_update(update: Update, spec: AdapterSpec) -> Update:
    """Return the update marked as verified, with zeros for frozen tensors; its tensors must not change from here on.

    Raises UpdateRejected unless names, shapes, finiteness and magnitude fit the assignment: the tensors that train were
    sent, no others, and every value lies in (-MAX_ABS_VALUE, MAX_ABS_VALUE). Reads each tensor once.
    """
    shapes = spec.shapes(rank=update.rank, keep_set=update.keep_set)
    expected = update.trains.of(shapes)
    subject = f"update of {update.device} for round {update.round}"
    if set(update.tensors) != set(expected):
        missing, extra = set(expected) - set(update.tensors), set(update.tensors) - set(expected)
        raise UpdateRejected(f"{subject}: missing tensors {sorted(missing)[:3]}, unexpected {sorted(extra)[:3]}")
    for name, shape in expected.items():
        value = update.tensors[name]
        if value.shape != shape or value.dtype != np.float32:
            raise UpdateRejected(f"{subject}: {name} is {value.dtype} {value.shape}, expected float32 {shape}")
        largest = peak(value)
        if not math.isfinite(largest):
            raise UpdateRejected(f"{subject}: {name} holds NaN or infinity; lower the learning rate")
        if largest >= MAX_ABS_VALUE:
            raise UpdateRejected(f"{subject}: {name} moved by {largest:.3g}, more than the bound of {MAX_ABS_VALUE:g}")
    if update.trains.everything:
        return replace(update, verified=True)
    return replace(update, tensors=ZeroFilled(update.tensors, shapes), verified=True)


def peak(values: NDArray[np.float32] | NDArray[np.float64]) -> float:
    """Return the largest absolute value, NaN if there is a NaN, 0 for no values; allocates nothing."""
    if not values.size:
        return 0.0
    # The ufuncs, because the methods of the same names take twice as long on the small tensors of updates.
    return max(float(np.maximum.reduce(values, axis=None)), -float(np.minimum.reduce(values, axis=None)))
