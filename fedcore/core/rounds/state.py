"""The round machine's state: a frozen value that `step` replaces."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcore.core.rounds.overlay import Overlay
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberStatus, RoundResult
from fedcore.core.text_enum import TextEnum


class Phase(TextEnum):
    """The phase of a run."""

    WAITING = "waiting"  # for devices
    PLANNING = "planning"  # a Turn is out, its answer is not here yet
    OPEN = "open"  # a round runs
    DONE = "done"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
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


@dataclass(frozen=True, kw_only=True)
class RoundState:
    """Everything the machine knows. Read it freely; only `step` makes new ones.

    It has no slots: nearly every event copies all attributes with a few changes, and copying `__dict__` takes a tenth
    of the constructor's time.
    """

    policy: RoundPolicy
    phase: Phase = Phase.WAITING
    now_s: float = 0.0  # largest time seen
    round: int = 1  # open, being planned, or waited for; counts from 1, void rounds included
    void_streak: int = 0  # void rounds in a row, up to now
    void_rounds: int = 0  # void rounds in all
    sessions: Overlay[Presence] = field(default_factory=Overlay)
    connected: int = 0  # sessions with an open stream
    members: Overlay[Member] = field(default_factory=Overlay)  # of the open round, else empty
    pending: int = 0  # members without a status
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
        now_s, lease_s = self.now_s, self.policy.lease_s  # `in_lease`, without a call for each of thousands
        return tuple(
            sorted(
                name
                for name, session in self.sessions.items()
                if session.connected and now_s < session.seen_s + lease_s
            )
        )

    @property
    def enough_here(self) -> bool:
        """Whether the roster has the devices that are needed; seldom has to compute the roster."""
        return self.connected >= self.devices_needed and len(self.roster) >= self.devices_needed

    def in_lease(self, session: Presence) -> bool:
        """Whether this session gave a sign of life within the lease."""
        return self.now_s < session.seen_s + self.policy.lease_s

    def lease_end_s(self, device: str) -> float:
        """When a member counts as lost. A device not seen yet (since a restart) has a lease from the opening."""
        session = self.sessions.get(device)
        seen_s = self.opened_at_s if session is None else session.seen_s
        return seen_s + self.policy.lease_s

    def at(self, now_s: float) -> "RoundState":
        """Return the state at this time, or at its own time where that is later."""
        return self._changed({"now_s": now_s}) if now_s > self.now_s else self

    def with_session(self, device: str, session: Presence) -> "RoundState":
        """Return the state with this newest session of a device."""
        before = self.sessions.get(device)
        connected = self.connected + session.connected - (before is not None and before.connected)
        return self._changed({"sessions": self.sessions.with_entry(device, session), "connected": connected})

    def with_members(self, members: Mapping[str, Member]) -> "RoundState":
        """Return the state with these devices' parts in the open round changed."""
        pending = self.pending
        for device, member in members.items():
            before = self.members.get(device)
            pending += (member.status is None) - (before is not None and before.status is None)
        return self._changed({"members": self.members.with_entries(members), "pending": pending})

    def without_members(self) -> "RoundState":
        """Return the state without members of an open round."""
        return self._changed({"members": Overlay(), "pending": 0})

    def _changed(self, changes: Mapping[str, object]) -> "RoundState":
        after = object.__new__(RoundState)
        object.__setattr__(after, "__dict__", {**self.__dict__, **changes})
        return after
