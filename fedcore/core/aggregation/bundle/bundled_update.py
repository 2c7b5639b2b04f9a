"""One device's factor increments inside a bundle, and how many bytes they take."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.update import Update
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledUpdate:
    """One device's factor increments as received, float32, in the device's own coordinates.

    `tensors` may be views into a received buffer. A tensor leaves `tensors` once it is used.
    """

    weight: int
    rank: int
    keep_set: KeepSet
    tensors: dict[str, NDArray[np.float32]]

    @staticmethod
    def of(update: Update, spec: AdapterSpec) -> "BundledUpdate":
        """Copy the factors of `update`, one tensor at a time."""
        names = [f"layers.{layer}.{module}.{factor}" for layer, module in spec.modules() for factor in "AB"]
        tensors = {name: np.array(update.tensors[name], dtype=np.float32) for name in names}
        return BundledUpdate(weight=update.weight, rank=update.rank, keep_set=update.keep_set, tensors=tensors)

    def owned(self) -> "BundledUpdate":
        """Return this update with tensors of its own; copies those that are views into a received buffer."""
        if all(value.flags.owndata for value in self.tensors.values()):
            return self
        tensors = {name: value if value.flags.owndata else value.copy() for name, value in self.tensors.items()}
        return BundledUpdate(weight=self.weight, rank=self.rank, keep_set=self.keep_set, tensors=tensors)


def factor_shapes(spec: AdapterSpec, *, rank: int, keep_set: KeepSet) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an update's factors in canonical order: those of the adapter without the head."""
    head = dict(spec.head)
    return {name: shape for name, shape in spec.shapes(rank=rank, keep_set=keep_set).items() if name not in head}


def stacked_bytes(spec: AdapterSpec, *, rank: int, keep_set: KeepSet) -> int:
    """Return the float32 bytes of an update's factors."""
    shapes = factor_shapes(spec, rank=rank, keep_set=keep_set)
    return sum(4 * shape[0] * shape[1] for shape in shapes.values())
