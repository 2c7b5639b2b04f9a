"""The interface between a simulated round and its training; the dispatch planner calls it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.errors import FedcoreError, OutOfMemory
from fedcore.core.model.adapter import Tensors
from fedcore.core.rounds.result import RoundResult
from fedcore.protos.values import WireAssignment

Stacked = Mapping[str, NDArray[np.float32]]  # name -> (devices, *shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One virtual device's assignment, as the strategy decided it and as the message that a real device would get."""

    device: str
    assignment: Assignment
    wire_assignment: WireAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parts of one round that agree in keep-set, rank, steps and training; `adapter` is the round's global adapter."""

    round: int
    adapter: Tensors
    parts: tuple[Part, ...]

    @property
    def assignment(self) -> Assignment:
        """The first part's assignment, for the values in which all parts agree."""
        return self.parts[0].assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a device's training failed."""

    message: str
    out_of_memory: bool = False

    @staticmethod
    def of(error: FedcoreError) -> "Failure":
        """Return the failure that an error is."""
        return Failure(message=str(error), out_of_memory=isinstance(error, OutOfMemory))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """The result of a group's training: by device, its metrics or the reason why it failed.

    `scores` are the group scores by device, None for a device without; empty where no device has any. `increments` has
    a row per device, in device coordinates, with the LoRA scale folded in; the row of a failed device is meaningless.
    It is None where nothing is trained at all.
    """

    metrics: tuple[TrainingMetrics | Failure, ...]
    increments: Stacked | None
    scores: tuple[GroupScores | None, ...] = ()


class Workload(Protocol):
    """Trains virtual devices, and keeps their states between rounds."""

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        """Yield the result of every group, in the order of the groups."""
        ...

    def settle(self, closed: RoundResult) -> None:
        """Commit the prepared states of accepted devices, and drop all other prepared ones."""
        ...

    def recover(self, last: RoundResult) -> None:
        """Restore the state after round `last`, which an earlier process closed; called once, before any training."""
        ...

    def close(self) -> None:
        """Release processes and files."""
        ...


def in_groups(parts: Sequence[Part], adapter: Tensors, most: int) -> list[Group]:
    """Return `parts` in groups that agree in everything that training depends on, sorted by device inside a group.

    More than `most` equal parts are split into groups whose sizes differ by at most one.
    """
    alike: dict[object, list[Part]] = {}
    for part in sorted(parts, key=lambda part: part.device):
        agreed = part.assignment
        key = agreed.keep_set.blob_id, agreed.arm.rank, agreed.local_steps, agreed.score, agreed.training
        alike.setdefault(key, []).append(part)
    return [
        Group(round=chunk[0].assignment.round, adapter=adapter, parts=tuple(chunk))
        for members in alike.values()
        for chunk in _evenly(members, -(-len(members) // most))
    ]


def _evenly(members: Sequence[Part], count: int) -> list[Sequence[Part]]:
    ends = [len(members) * number // count for number in range(count + 1)]
    return [members[low:high] for low, high in itertools.pairwise(ends)]
