"""Updates of many devices of one rank and keep-set as one value: every tensor stacked along a first axis.

The batched training of a simulator makes stacks. Many small updates are also verified and folded as a stack: where an
update has a few thousand values, calls per tensor cost more than arithmetic.
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

Refused = tuple[tuple[str, str], ...]  # (device, problem with its update)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStack:
    """One round's increments of several devices, in the order of `devices`.

    `tensors` has the names of `AdapterSpec.shapes(rank, keep_set)`, and shapes (devices, *shape), float32. As in
    `Update`, only the tensors that train are there until the stack is verified. Only `verify_stack` sets `verified`.
    Raises UpdateRejected unless there is a weight for each device.
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
        """Return the number of devices."""
        return len(self.devices)

    def select(self, indices: Sequence[int]) -> "UpdateStack":
        """Return the stack of these devices alone, with copied tensors; the same stack for all devices."""
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
    """Return the verified stack of the updates that fit, and the problem of each other update.

    Rules and messages are those of `verify_update`; names, shapes and dtypes are checked for all devices at once. The
    tensors must not change from here on. Reads each value twice.
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
    refused = tuple((stack.devices[index], _problem_of(stack.update(index), spec)) for index in sorted(bad))
    good = stack.select([index for index in range(len(stack)) if index not in bad]) if bad else stack
    return _completed(good, spec), refused


def _completed(stack: UpdateStack, spec: AdapterSpec) -> UpdateStack:
    """Return the stack as verified, with zeros for frozen tensors."""
    if stack.trains.everything:
        return replace(stack, verified=True)
    shapes = spec.shapes(rank=stack.rank, keep_set=stack.keep_set)
    stacked = {name: (len(stack), *shape) for name, shape in shapes.items()}
    return replace(stack, tensors=ZeroFilled(stack.tensors, stacked), verified=True)


def _misfit(stack: UpdateStack, spec: AdapterSpec) -> str:
    """Return the problem with names, shapes or dtypes; empty where they fit."""
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
    """Return every device's largest absolute value, (devices,); NaN for a device with a NaN."""
    rows = value.reshape(len(value), -1)
    peaks: NDArray[np.float32] = np.maximum(np.maximum.reduce(rows, axis=1), -np.minimum.reduce(rows, axis=1))
    return peaks


def _problem_of(update: Update, spec: AdapterSpec) -> str:
    try:
        verify_update(update, spec)
    except UpdateRejected as cause:
        return str(cause)
    raise RuntimeError(f"{update.device}: refused in a stack, and fits alone")
