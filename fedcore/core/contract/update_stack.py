"""Updates of many devices of one rank and keep-set as one value: every tensor stacked along a first axis.

What a simulator's batched training makes, and what many small updates are verified and folded as: calls per tensor
cost more than arithmetic where an update is a few thousand values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.update import MAX_ABS_VALUE, Update, peak, verify_update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart, ZeroFilled

Refused = tuple[tuple[str, str], ...]  # (device, what is wrong with its update)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStack:
    """One round's increments of several devices, in the order of `devices`.

    `tensors` has the names of `AdapterSpec.shapes(rank, keep_set)` and, before their shapes, the axis of devices;
    float32. As in `Update`, they are those that train until the stack is verified. `verified` is set by `verify_stack`
    alone. Raises UpdateRejected where there are not as many weights.
    """

    round: int
    devices: tuple[str, ...]
    weights: tuple[int, ...]
    rank: int
    keep_set: KeepSet
    tensors: Mapping[str, NDArray[np.float32]]
    trains: TrainedPart = EVERYTHING
    verified: bool = False

    def __post_init__(self) -> None:
        if len(self.devices) != len(self.weights):
            raise UpdateRejected(
                f"stack of round {self.round}: expected a weight for each of {len(self.devices)} devices, "
                f"got {len(self.weights)}"
            )

    def __len__(self) -> int:
        """Devices in it."""
        return len(self.devices)

    def select(self, indices: Sequence[int]) -> "UpdateStack":
        """Return the stack of these devices alone, its tensors copied; the stack itself where it is all of them."""
        if list(indices) == list(range(len(self))):
            return self
        rows = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            devices=tuple(self.devices[index] for index in indices),
            weights=tuple(self.weights[index] for index in indices),
            tensors={name: value[rows] for name, value in self.tensors.items()},
        )

    def update(self, index: int) -> Update:
        """Return one device's update; its tensors are views."""
        return Update(
            device=self.devices[index],
            round=self.round,
            weight=self.weights[index],
            rank=self.rank,
            keep_set=self.keep_set,
            tensors={name: value[index] for name, value in self.tensors.items()},
            trains=self.trains,
            verified=self.verified,
        )


def verify_stack(stack: UpdateStack, spec: AdapterSpec) -> tuple[UpdateStack, Refused]:
    """Return the verified stack of those whose update fits, and what is wrong with each of the others.

    The rules and the words are those of `verify_update`; names, shapes and dtypes are everybody's at once. The tensors
    must not change from here on. Reads each value twice.
    """
    problem = _misfit(stack, spec)
    if problem:
        return _completed(stack.select(()), spec), tuple(
            (device, f"update of {device} for round {stack.round}: {problem}") for device in stack.devices
        )
    bad = {
        index
        for value in stack.tensors.values()
        if not peak(value) < MAX_ABS_VALUE
        for index in np.flatnonzero(~(_row_peaks(value) < MAX_ABS_VALUE)).tolist()
    }
    refused = tuple((stack.devices[index], _why(stack.update(index), spec)) for index in sorted(bad))
    good = stack.select([index for index in range(len(stack)) if index not in bad]) if bad else stack
    return _completed(good, spec), refused


def _completed(stack: UpdateStack, spec: AdapterSpec) -> UpdateStack:
    """Return the stack as verified, with zeros for what was frozen."""
    if stack.trains.everything:
        return replace(stack, verified=True)
    shapes = spec.shapes(rank=stack.rank, keep_set=stack.keep_set)
    stacked = {name: (len(stack), *shape) for name, shape in shapes.items()}
    return replace(stack, tensors=ZeroFilled(stack.tensors, stacked), verified=True)


def _misfit(stack: UpdateStack, spec: AdapterSpec) -> str:
    """Return what is wrong with names, shapes or dtypes, empty where nothing is."""
    expected = stack.trains.of(spec.shapes(rank=stack.rank, keep_set=stack.keep_set))
    if set(stack.tensors) != set(expected):
        missing, extra = set(expected) - set(stack.tensors), set(stack.tensors) - set(expected)
        return f"missing tensors {sorted(missing)[:3]}, unexpected {sorted(extra)[:3]}"
    for name, shape in expected.items():
        value = stack.tensors[name]
        if value.shape != (len(stack), *shape) or value.dtype != np.float32:
            return f"{name} is {value.dtype} {value.shape[1:]} in a stack of {len(value)}, expected float32 {shape}"
    return ""


def _row_peaks(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every device's largest absolute value, NaN where it has one."""
    rows = value.reshape(len(value), -1)
    peaks: NDArray[np.float32] = np.maximum(np.maximum.reduce(rows, axis=1), -np.minimum.reduce(rows, axis=1))
    return peaks


def _why(update: Update, spec: AdapterSpec) -> str:
    try:
        verify_update(update, spec)
    except UpdateRejected as cause:
        return str(cause)
    raise RuntimeError(f"{update.device}: refused in a stack, and fits alone")
