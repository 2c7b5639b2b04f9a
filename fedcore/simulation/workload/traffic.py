"""What crosses a virtual device's links: how many bytes come down, and what the far side decodes of what goes up."""

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
from fedcore.server.aggregate.uploads import SCORE_CODEC, score_shapes
from fedcore.simulation.workload.workload import Group, Part, Stacked
from fedcore.strategies.policy.cost import RoundCost, value_bytes

FLOAT_BYTES = 4
MOST_SIZES = 1 << 12  # sums of hand-outs remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """Increments as the parent decodes them, and the bytes each device sent, in the order of the group."""

    increments: Stacked | None
    sizes: Sequence[int]


class Traffic(Protocol):
    """Counts and carries."""

    def down(self, part: Part) -> int:
        """Return the bytes a device fetches before it can begin; it holds them afterwards."""
        ...

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Return what arrives of the increments of `group`."""
        ...


class Feedback(Protocol):
    """Error feedback of virtual devices, kept between rounds."""

    def send(self, part: Part, increment: dict[str, NDArray[np.float32]]) -> bytes:
        """Return the bytes of a device's update; what they leave over is prepared."""
        ...


@dataclass(slots=True, kw_only=True)
class RealTraffic:
    """Real hand-outs and really encoded updates. A plain cast is done to all devices at once, with the same result."""

    feedback: Feedback
    _held: dict[str, frozenset[str]] = field(default_factory=dict)  # by device, the blobs of its last hand-out
    _shifts: dict[str, int] = field(default_factory=dict)  # by device, the round whose base shift it holds
    _sizes: dict[tuple[tuple[str, ...], frozenset[str]], int] = field(default_factory=dict)

    def down(self, part: Part) -> int:
        """Count what is not held yet, a delta where one is on offer; what travels inside messages always comes."""
        refs = part.wire_assignment.refs
        before = self._held.get(part.device, frozenset())
        ids = tuple([ref.id for ref in refs])
        self._held[part.device] = _names(ids)
        key = ids, before  # the same few for all devices of a round
        if key not in self._sizes:
            if len(self._sizes) >= MOST_SIZES:
                self._sizes.clear()
            self._sizes[key] = sum(_fetched(ref, before) for ref in refs)
        return self._sizes[key] + self._shift_down(part)

    def _shift_down(self, part: Part) -> int:
        """Count what a device lacks of the base shift, steps where they are the shorter way."""
        shift = part.wire_assignment.base_shift
        if shift is None:
            return 0
        held, self._shifts[part.device] = self._shifts.get(part.device, 0), shift.round
        return sum(ref.size for ref in shift.since(held))

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Encode and decode every update under its codec."""
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
    """Bytes by formula, for a run that trains nothing: a hand-out down, an update before entropy coding up."""

    cost: RoundCost

    def down(self, part: Part) -> int:
        """Return the bytes of the adapter's factors at the assigned rank: all rows, or those that come down."""
        asked = part.assignment
        factors = self.cost.estimate(asked.keep_set.counts, asked.arm.rank).down_values
        return FLOAT_BYTES * (factors + _head_values(self.cost))

    def up(self, group: Group, increments: Stacked | None) -> Sent:
        """Return the bytes of as many values as a device of this rank, keep-set and trained part sends."""
        asked = group.assignment
        factors = self.cost.estimate(asked.keep_set.counts, asked.arm.rank, asked.training.trains).up_values
        size = round(value_bytes(asked.training.codec) * (factors + _head_values(self.cost)))
        return Sent(increments=None, sizes=[size] * len(group.parts))


def _score_bytes(assignment: Assignment) -> int:
    """Bytes of the group importances that go up beside an update, where they are asked for."""
    if not assignment.score:
        return 0
    return _plain_size(tuple(sorted(score_shapes(assignment.keep_set).items())), SCORE_CODEC)


def _fetched(ref: BlobRef, held: frozenset[str]) -> int:
    if not ref.inline and ref.id in held:
        return 0
    if not ref.inline and 0 < ref.delta_size < ref.size and ref.delta_base in held:
        return ref.delta_size
    return ref.size


@lru_cache(256)
def _names(ids: tuple[str, ...]) -> frozenset[str]:
    """One set for all devices of a hand-out, not one for each."""
    return frozenset(ids)


@lru_cache(256)
def _plain_size(shapes: tuple[tuple[str, tuple[int, ...]], ...], codec: str) -> int:
    """Bytes of a plain cast: they depend on names and shapes alone."""
    return len(encode({name: np.zeros(shape, dtype=np.float32) for name, shape in shapes}, codec))


def _head_values(cost: RoundCost) -> int:
    return sum(math.prod(shape) for _, shape in cost.spec.head)
