"""How a round ended, device by device: what the machine hands to the shell at close."""

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
    """A closed round. Where `void`, quorum was missed: the global adapter stays, accepted updates are not used."""

    round: int
    void: bool
    members: tuple[MemberResult, ...]  # the whole cohort, sorted by device
    opened_at_s: float
    closed_at_s: float

    @property
    def accepted(self) -> tuple[str, ...]:
        """Devices whose update was accepted, sorted."""
        return tuple(each.device for each in self.members if each.status is MemberStatus.ACCEPTED)

    def member(self, device: str) -> MemberResult | None:
        """Return the part `device` had in this round, None where it was not in the cohort."""
        index = bisect_left(self.members, device, key=lambda each: each.device)
        found = self.members[index] if index < len(self.members) else None
        return found if found is not None and found.device == device else None
