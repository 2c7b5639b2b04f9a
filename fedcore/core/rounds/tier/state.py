"""What an edge's machine knows: a frozen value that `tier.step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Stage(StrEnum):
    """How far one leaf of the open round is."""

    PENDING = "pending"  # has its assignment
    GONE = "gone"  # left before it answered; nobody waits for it here
    HELD = "held"  # verified and folded, not passed on yet
    FLYING = "flying"  # in a submission under way
    COUNTED = "counted"  # the tier above has it
    REFUSED = "refused"  # the tier above came to its end without it
    FAILED = "failed"  # it could not do its work, or its update did not fit


class Word(StrEnum):
    """The word on an update or a submission."""

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
    """One device of the round; `part` is the child's submission it came in, None for a device of our own."""

    stage: Stage
    part: PartialId | None = None
    gone: bool = False  # with an update here: nobody below would send it again
    asked: bool = False  # its update came from a child, and it offered a copy here: it is told as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A child's submission nothing can be said about yet."""

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
    """Everything an edge's machine knows. `number` is that of the last submission; start it above an earlier life's."""

    round: int = 0  # 0 before the first share
    now_s: float = 0.0
    deadline_at_s: float = 0.0
    number: int = 0
    over: bool = False  # `round` has closed; of its leaves only the counted are remembered
    leaves: Mapping[str, RelayedDevice] = field(default_factory=dict)
    parts: Mapping[PartialId, tuple[str, ...]] = field(
        default_factory=dict
    )  # held or flying, with their counted devices
    answers: Mapping[PartialId, tuple[Word, tuple[str, ...]]] = field(default_factory=dict)  # given in this round
    waiting: Mapping[PartialId, Claim] = field(
        default_factory=dict
    )  # of this round or a later one, neither held nor refused
    reported: frozenset[str] = frozenset()  # failed leaves the tier above has heard of
    flights: Mapping[int, Submission] = field(default_factory=dict)  # submissions under way, by number

    def holds(self, device: str) -> bool:
        """Whether an update of this device is here without an answer; such a device is not reported lost above."""
        leaf = self.leaves.get(device)
        return leaf is not None and leaf.stage in (Stage.HELD, Stage.FLYING)
