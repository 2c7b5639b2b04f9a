"""The traffic of virtual devices: bytes of a download, and an update as the parent decodes it.

Real traffic encodes and decodes every update and remembers which blobs a device holds, so its byte counts are those of
a real fleet. Modelled traffic knows no tensors and counts by formula.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.cast import Cast
from fedcore.core.codec.chain import decode, encode
from fedcore.core.codec.grammar import parse_chain
from fedcore.core.contract.assignment import Assignment
from fedcore.protos.values import BlobRef
from fedcore.server.aggregate.uploads import SCORE_CODEC, scores_wanted
from fedcore.simulation.workload.workload import Group, Part, Stacked
from fedcore.strategies.policy.cost import RoundCost, value_bytes

FLOAT_BYTES = 4
MOST_SIZES = 1 << 12  # cached sizes of downloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Increments as the parent decodes them, and the bytes each device sent, in the order of the group."""

    increments: Stacked | None
    sizes: Sequence[int]


class Traffic(Protocol):
    """Counts the bytes of downloads, and carries updates up."""

    def down(self, part: Part) -> int:
        """Return the bytes that a device fetches before it can begin; it holds these blobs afterwards."""
        ...

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Return the increments of `group` as they arrive, and the bytes of every device."""
        ...


class Feedback(Protocol):
    """Error feedback of virtual devices, kept between rounds."""

    def send(self, part: Part, increment: dict[str, NDArray[np.float32]]) -> bytes:
        """Return the encoded update of a device, and prepare its new residual."""
        ...


@dataclass(slots=True, kw_only=True)
class RealTraffic:
    """Real downloads and really encoded updates; a plain cast runs on all devices at once, with the same result."""

    feedback: Feedback
    _held: dict[str, frozenset[str]] = field(default_factory=dict)  # device -> blobs of its last download
    _shifts: dict[str, int] = field(default_factory=dict)  # device -> round of the base shift it holds
    _sizes: dict[tuple[tuple[str, ...], frozenset[str]], int] = field(default_factory=dict)

    def down(self, part: Part) -> int:
        """Count the blobs that the device lacks, as a delta where there is one; inline blobs are always sent."""
        refs = part.wire_assignment.refs
        before = self._held.get(part.device, frozenset())
        ids = tuple([ref.id for ref in refs])
        self._held[part.device] = _names(ids)
        key = ids, before  # few different ones in a round
        if key not in self._sizes:
            if len(self._sizes) >= MOST_SIZES:
                self._sizes.clear()
            self._sizes[key] = sum(_fetched(ref, before) for ref in refs)
        return self._sizes[key] + self._shift_down(part)

    def _shift_down(self, part: Part) -> int:
        """Count the base shift that a device lacks: as steps where these are fewer bytes, else whole."""
        shift = part.wire_assignment.base_shift
        if shift is None:
            return 0
        before, self._shifts[part.device] = self._shifts.get(part.device, 0), shift.round
        return sum(ref.size for ref in shift.since(before))

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Encode and decode every update with its codec."""
        if increments is None:
            raise ValueError("real traffic carries tensors, and this training made none")
        codec = group.assignment.training.codec
        chain, beside = parse_chain(codec), _score_bytes(group.assignment)
        if isinstance(chain.format, Cast) and chain.share is None and not chain.compress and not chain.feedback:
            one = {name: value[0] for name, value in increments.items()}
            size = _plain_size(tuple((name, value.shape) for name, value in sorted(one.items())), codec)
            arrived = {name: chain.format.widen(chain.format.narrow(value)) for name, value in increments.items()}
            return Sent(increments=arrived, sizes=[size + beside] * len(group.parts))
        arrived = {name: np.empty_like(value) for name, value in increments.items()}
        sizes = []
        for row, part in enumerate(group.parts):
            increment = {name: value[row] for name, value in increments.items()}
            data = self.feedback.send(part, increment) if chain.feedback else encode(increment, codec)
            decoded = decode(data)
            for name, value in arrived.items():
                value[row] = decoded[name]
            sizes.append(len(data) + beside)
        return Sent(increments=arrived, sizes=sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelledTraffic:
    """Bytes by formula, for a run that trains nothing: the adapter down, the update before entropy coding up."""

    cost: RoundCost

    def down(self, part: Part) -> int:
        """Return the float32 bytes of the adapter at the assigned rank: of all rows, or of the kept ones."""
        assignment = part.assignment
        factors = self.cost.estimate(assignment.keep_set.counts, assignment.arm.rank).down_values
        return FLOAT_BYTES * (factors + _head_values(self.cost))

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Return the bytes of the values that a device of this rank, keep-set and trained part sends."""
        assignment = group.assignment
        counts, trains = assignment.keep_set.counts, assignment.training.trains
        factors = self.cost.estimate(counts, assignment.arm.rank, trains).up_values
        size = round(value_bytes(assignment.training.codec) * (factors + _head_values(self.cost)))
        return Sent(increments=None, sizes=[size] * len(group.parts))


def _score_bytes(assignment: Assignment) -> int:
    """Return the bytes of the group scores beside an update; 0 where the assignment wants none."""
    if not assignment.score:
        return 0
    return _plain_size(tuple(sorted(scores_wanted(assignment).items())), SCORE_CODEC)


def _fetched(ref: BlobRef, present: frozenset[str]) -> int:
    if not ref.inline and ref.id in present:
        return 0
    if not ref.inline and 0 < ref.delta_size < ref.size and ref.delta_base in present:
        return ref.delta_size
    return ref.size


@lru_cache(256)
def _names(ids: tuple[str, ...]) -> frozenset[str]:
    """Return one shared set for all devices that fetch the same blobs."""
    return frozenset(ids)


@lru_cache(256)
def _plain_size(shapes: tuple[tuple[str, tuple[int, ...]], ...], codec: str) -> int:
    """Return the bytes of a plain cast, which depend on names and shapes alone."""
    return len(encode({name: np.zeros(shape, dtype=np.float32) for name, shape in shapes}, codec))


def _head_values(cost: RoundCost) -> int:
    return sum(math.prod(shape) for _, shape in cost.spec.head)
