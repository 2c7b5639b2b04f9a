"""The seam between a simulated round and whatever trains in it."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.model.adapter import Tensors
from fedcore.core.rounds.result import RoundResult
from fedcore.protos.values import WireAssignment

Stacked = Mapping[str, NDArray[np.float32]]  # name -> (devices, *shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One virtual device's assignment, as decided and as it would travel."""

    device: str
    assignment: Assignment
    wire_assignment: WireAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parts of one round that agree in keep-set, rank, steps and training; `adapter` is what the round handed out."""

    round: int
    adapter: Tensors
    parts: tuple[Part, ...]

    @property
    def assignment(self) -> Assignment:
        """Any of them, for what they agree in."""
        return self.parts[0].assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupResult:
    """What a group's training came to: per device its metrics, or why it failed.

    `scores` are the group importances by device, None of a device that has none; empty where no device has any.
    `increments` has a row for every device, in device coordinates and with the LoRA scale folded in; the rows of
    failed ones mean nothing. None where nothing is trained at all.
    """

    metrics: tuple[TrainingMetrics | str, ...]
    increments: Stacked | None
    scores: tuple[GroupScores | None, ...] = ()


class Workload(Protocol):
    """Trains virtual devices; whatever it keeps between rounds is its own."""

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        """Yield what each group's devices learned, in the order of the groups."""
        ...

    def settle(self, closed: RoundResult) -> None:
        """Commit what the devices whose updates were accepted keep, and forget what the others had prepared."""
        ...

    def recover(self, last: RoundResult) -> None:
        """Take up where an earlier process of the run ended, after this round; called once, before any training."""
        ...

    def close(self) -> None:
        """Let go of processes and files."""
        ...


def in_groups(parts: Sequence[Part], adapter: Tensors, most: int) -> list[Group]:
    """Return `parts` in groups that train alike, in order of name inside each.

    What is more than `most` devices is parted into groups whose sizes differ by one device at most.
    """
    alike: dict[object, list[Part]] = {}
    for part in sorted(parts, key=lambda each: each.device):
        asked = part.assignment
        key = asked.keep_set.blob_id, asked.arm.rank, asked.local_steps, asked.score, asked.training
        alike.setdefault(key, []).append(part)
    return [
        Group(round=chunk[0].assignment.round, adapter=adapter, parts=tuple(chunk))
        for members in alike.values()
        for chunk in _evenly(members, -(-len(members) // most))
    ]


def _evenly(members: Sequence[Part], count: int) -> list[Sequence[Part]]:
    ends = [len(members) * number // count for number in range(count + 1)]
    return [members[low:high] for low, high in itertools.pairwise(ends)]
