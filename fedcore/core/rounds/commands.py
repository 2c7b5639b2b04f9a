"""What the round machine asks of the shell, to be done in the order given."""

from dataclasses import dataclass

from fedcore.core.rounds.result import RoundResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Close `closed` durably and plan `next_round` for `roster`, in one commit.

    Answer with `Planned(next_round, cohort)`, or with `TurnDone` where `next_round` is None. `closed` is None
    where nothing closed since the last turn (first round, resumed run, or another try at an empty plan).
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
    """Count the update that just arrived and acknowledge it. Given at most once per (device, round)."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AckDuplicate:
    """Acknowledge an update that was counted before; do not count it again."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseLate:
    """The round had closed: the update is not counted."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseUnknown:
    """This device has no open assignment of this round (never had one, or its update was rejected)."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptPartial:
    """Count the partial that just arrived and acknowledge it: none of its leaves was counted before."""

    edge: str
    number: int
    round: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseOverlap:
    """These leaves of a partial are counted already: the edge shall fold again without them."""

    edge: str
    number: int
    round: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusePartial:
    """The partial's round is not open: nothing of it is counted."""

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
    """The run stops here and can be continued later; `reason` is for people."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Every round is closed durably; the run is over."""


PartialAnswer = AcceptPartial | RefuseOverlap | RefusePartial
Command = (
    Turn | Push | Accept | AckDuplicate | RefuseLate | RefuseUnknown | PartialAnswer | Fence | WakeAt | Pause | Finish
)
