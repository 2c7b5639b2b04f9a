"""The state of an edge's machine: a frozen value that `tier.step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcore.core.text_enum import TextEnum


class Stage(TextEnum):
    """The stage of one device of the open round."""

    PENDING = "pending"  # has its assignment
    ABSENT = "absent"  # left before it answered; the edge does not wait for it
    FOLDED = "folded"  # its update is verified and in the sum, not passed on yet
    SENT = "sent"  # in a submission under way
    COUNTED = "counted"  # the tier above has counted it
    REFUSED = "refused"  # the tier above closed the round without it
    FAILED = "failed"  # it could not carry out its assignment, or its update did not fit


class Decision(TextEnum):
    """The decision on an update or a submission."""

    ACCEPTED = "accepted"
    LATE = "late"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    OVERLAP = "overlap"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PartialId:
    """One submission of a child edge."""

    child: str
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayedDevice:
    """One device of the round; `part` is the child's submission with its update, None for a device directly below."""

    stage: Stage
    part: PartialId | None = None
    absent: bool = False  # its update is here but the device left: no device below would send it again
    offered_copy: bool = False  # its update came from a child, and it sent a copy here: it gets the decision too


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A child's submission that cannot be decided on yet."""

    round: int
    counted: tuple[str, ...]
    failed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A submission under way."""

    number: int
    devices: tuple[str, ...]  # counted in it, sorted
    failed: tuple[str, ...]  # reported with it
    parts: tuple[PartialId, ...]  # whole submissions of children in it


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """The state of an edge's machine. `number` is the last submission's; a restarted edge begins above earlier ones."""

    round: int = 0  # 0 before the first share
    now_s: float = 0.0
    deadline_at_s: float = 0.0
    number: int = 0
    over: bool = False  # `round` has closed; of its devices only the counted are remembered
    devices: Mapping[str, RelayedDevice] = field(default_factory=dict)
    # Children's submissions in the sum or under way, with their counted devices:
    parts: Mapping[PartialId, tuple[str, ...]] = field(default_factory=dict)
    # ... answered in this round:
    answers: Mapping[PartialId, tuple[Decision, tuple[str, ...]]] = field(default_factory=dict)
    # ... of this round or a later one, neither merged nor answered:
    claims: Mapping[PartialId, Claim] = field(default_factory=dict)
    reported_failures: frozenset[str] = frozenset()  # failed devices that the tier above knows
    submissions: Mapping[int, Submission] = field(default_factory=dict)  # under way, by number

    def holds(self, device: str) -> bool:
        """Whether an update of this device is here without an answer; such a device is not reported lost above."""
        relayed = self.devices.get(device)
        return relayed is not None and relayed.stage in (Stage.FOLDED, Stage.SENT)
