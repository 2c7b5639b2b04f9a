"""What an edge's shell tells its machine. `now_s` is seconds on any clock that never goes back."""

from dataclasses import dataclass

from fedcore.core.rounds.tier.state import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareArrived:
    """The tier above handed out assignments of a round, in one share or several.

    What is folded at `deadline_at_s` is passed on as it is; the newest share's deadline holds.
    """

    round: int
    devices: tuple[str, ...]
    deadline_at_s: float
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateArrived:
    """A device's update is here and was verified."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentFailed:
    """A device could not carry out its assignment, or its update did not fit."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLeft:
    """A device is not below this edge any more, or was not when its assignment came."""

    device: str
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialArrived:
    """A child edge's submission is here and was verified, as far as it can be: devices in it may be unknown here."""

    child: str
    number: int
    round: int
    counted: tuple[str, ...]
    failed: tuple[str, ...]
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionAnswered:
    """The tier above has answered a submission; with OVERLAP, `devices` are counted already."""

    number: int
    decision: Decision
    devices: tuple[str, ...] = ()
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkRestored:
    """The stream to the tier above is back."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """A round is closed durably at the root."""

    round: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time passed."""

    now_s: float


Event = (
    ShareArrived
    | UpdateArrived
    | AssignmentFailed
    | DeviceLeft
    | PartialArrived
    | SubmissionAnswered
    | UplinkRestored
    | RoundClosed
    | Tick
)
