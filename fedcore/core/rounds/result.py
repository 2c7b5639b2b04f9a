"""The result of a round, device by device, which the machine gives to the shell at close."""

from bisect import bisect_left
from dataclasses import dataclass

from fedcore.core.contract.outcome import Status as MemberStatus

__all__ = ["MemberResult", "MemberStatus", "RoundResult"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberResult:
    """One member of the cohort. Times are the shell's `now_s`."""

    device: str
    status: MemberStatus
    pushed_at_s: float  # first push of the assignment; the opening of the round where it was never pushed
    accepted_at_s: float | None  # None unless accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """A closed round. A `void` one missed quorum: the global adapter stays, and accepted updates are not used."""

    round: int
    void: bool
    members: tuple[MemberResult, ...]  # the whole cohort, sorted by device
    opened_at_s: float
    closed_at_s: float

    @property
    def accepted(self) -> tuple[str, ...]:
        """Devices with an accepted update, sorted."""
        return tuple(member.device for member in self.members if member.status is MemberStatus.ACCEPTED)

    def member(self, device: str) -> MemberResult | None:
        """Return the result of `device`, None if it was not in the cohort."""
        index = bisect_left(self.members, device, key=lambda member: member.device)
        if index == len(self.members) or self.members[index].device != device:
            return None
        return self.members[index]
