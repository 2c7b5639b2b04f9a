"""The round machine's state: a frozen value that `step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from fedcore.rounds.policy import RoundPolicy
from fedcore.rounds.result import MemberStatus, RoundResult


class Phase(StrEnum):
    """Where a run is."""

    WAITING = "waiting"  # for devices
    PLANNING = "planning"  # a Turn is out, its answer is not here yet
    OPEN = "open"  # a round runs
    DONE = "done"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The newest session of one device."""

    epoch: int
    connected: bool
    seen_s: float  # last sign of life


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One device's part in the open round; `status` None is pending."""

    status: MemberStatus | None = None
    pushed_at_s: float | None = None
    accepted_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundState:
    """Everything the machine knows. Read it freely; only `step` makes new ones."""

    policy: RoundPolicy
    phase: Phase = Phase.WAITING
    now_s: float = 0.0  # largest time seen
    round: int = 1  # open, being planned, or waited for; counts from 1, void rounds included
    void_streak: int = 0  # void rounds in a row, up to now
    void_rounds: int = 0  # void rounds in all
    sessions: Mapping[str, Session] = field(default_factory=dict)
    members: Mapping[str, Member] = field(default_factory=dict)  # of the open round, else empty
    opened_at_s: float = 0.0  # of the open round
    closed: RoundResult | None = None  # the last round that closed
    devices_needed: int = 1  # to leave WAITING
    wait_until_s: float | None = None  # end of WAITING; None before Started
    fresh: bool = False  # a device came (back) since the last Turn
    pause_reason: str | None = None  # pause as soon as the Turn that is out is answered
    wake_at_s: float | None = None  # the WakeAt in force

    @property
    def deadline_at_s(self) -> float:
        """When the open round closes at the latest."""
        return self.opened_at_s + self.policy.deadline_s

    @property
    def is_last(self) -> bool:
        """Whether enough rounds have closed without being void, so that no other one is planned."""
        return self.round - 1 - self.void_rounds >= self.policy.total_rounds

    @property
    def roster(self) -> tuple[str, ...]:
        """Devices with an open stream and a valid lease, sorted."""
        return tuple(sorted(name for name, each in self.sessions.items() if each.connected and self.in_lease(each)))

    def in_lease(self, session: Session) -> bool:
        """Whether this session gave a sign of life within the lease."""
        return self.now_s < session.seen_s + self.policy.lease_s

    def lease_end_s(self, device: str) -> float:
        """When a member counts as lost. One never seen (a plan from before a restart) gets a lease from the opening."""
        session = self.sessions.get(device)
        seen_s = self.opened_at_s if session is None else session.seen_s
        return seen_s + self.policy.lease_s
