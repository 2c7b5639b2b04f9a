"""What a device sends back: increments of the adapter it was handed, in its own coordinates."""

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

    `tensors` has exactly the names and shapes of `AdapterSpec.shapes(rank, keep_set)`, float32; as it is sent, of
    those that train (`trains`), and the others are zeros once it is verified. The mapping may be lazy: aggregators
    read one tensor at a time and each tensor once. `verified` is set by `verify_update` alone: whoever folds the
    update relies on it instead of looking at every value again.
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
    """Return the update marked as verified, with zeros for what was frozen; its tensors must not change from here on.

    Raises UpdateRejected unless names, shapes, finiteness and magnitude fit the assignment: exactly what trains was
    sent, and every value lies in (-MAX_ABS_VALUE, MAX_ABS_VALUE). Reads each tensor once.
    """
    shapes = spec.shapes(rank=update.rank, keep_set=update.keep_set)
    expected = update.trains.of(shapes)
    who = f"update of {update.device} for round {update.round}"
    if set(update.tensors) != set(expected):
        missing, extra = set(expected) - set(update.tensors), set(update.tensors) - set(expected)
        raise UpdateRejected(f"{who}: missing tensors {sorted(missing)[:3]}, unexpected {sorted(extra)[:3]}")
    for name, shape in expected.items():
        value = update.tensors[name]
        if value.shape != shape or value.dtype != np.float32:
            raise UpdateRejected(f"{who}: {name} is {value.dtype} {value.shape}, expected float32 {shape}")
        moved = peak(value)
        if not math.isfinite(moved):
            raise UpdateRejected(f"{who}: {name} holds NaN or infinity; lower the learning rate")
        if moved >= MAX_ABS_VALUE:
            raise UpdateRejected(f"{who}: {name} moved by {moved:.3g}, more than the bound of {MAX_ABS_VALUE:g}")
    if update.trains.everything:
        return replace(update, verified=True)
    return replace(update, tensors=ZeroFilled(update.tensors, shapes), verified=True)


def peak(values: NDArray[np.float32] | NDArray[np.float64]) -> float:
    """Return the largest absolute value, NaN where there is one, 0 for no values; allocates nothing."""
    if not values.size:
        return 0.0
    # Ufuncs themselves: the methods of the same names take twice as long for the small tensors updates are made of.
    return max(float(np.maximum.reduce(values, axis=None)), -float(np.minimum.reduce(values, axis=None)))
