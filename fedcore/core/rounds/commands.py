"""The commands of the round machine to its shell, to be done in the order given."""

from dataclasses import dataclass

from fedcore.core.rounds.result import RoundResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Close `closed` durably and plan `next_round` for `roster`, in one commit.

    Answer with `Planned(next_round, cohort)`, or with `TurnDone` where `next_round` is None. `closed` is None
    where no round closed since the last turn (first round, resumed run, or a retry after an empty plan).
    """

    closed: RoundResult | None
    next_round: int | None
    roster: tuple[str, ...]  # devices with an open stream and a valid lease, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Send the open assignment down the device's stream; a device that has it already ignores the copy."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept:
    """Count the update that just arrived and acknowledge it; at most once per (device, round)."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AckDuplicate:
    """Acknowledge an update that was counted before; do not count it again."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseLate:
    """Refuse an update that came after its round had closed: it is not counted."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseUnknown:
    """Refuse an update that no open assignment of this round asks for (there was none, or its update was rejected)."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptPartial:
    """Count the partial that just arrived and acknowledge it: none of its devices was counted before."""

    edge: str
    number: int
    round: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseOverlap:
    """Refuse a partial: these devices of it are counted already, and the edge must fold again without them."""

    edge: str
    number: int
    round: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusePartial:
    """Refuse a partial of a round that is not open: none of its updates is counted."""

    edge: str
    number: int
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """Drop the stream of this session: the device has another one, with an epoch at least as new."""

    device: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Send a `Tick` at this time; replaces every earlier WakeAt."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """Stop the run, which can be continued later; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the run: every round is closed durably."""


PartialAnswer = AcceptPartial | RefuseOverlap | RefusePartial
Command = (
    Turn | Push | Accept | AckDuplicate | RefuseLate | RefuseUnknown | PartialAnswer | Fence | WakeAt | Pause | Finish
)
