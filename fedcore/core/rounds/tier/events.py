"""The events that an edge's shell feeds to its machine. `now_s` is seconds on any clock that never goes back."""

from dataclasses import dataclass

from fedcore.core.rounds.tier.state import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareArrived:
    """The tier above handed out assignments of a round, in one share or several.

    At `deadline_at_s` the sum is passed on as it is; the newest share's deadline holds.
    """

    round: int
    devices: tuple[str, ...]
    deadline_at_s: float
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateArrived:
    """A device's update arrived and was verified."""

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
    """A device is no longer below this edge, or was not below it when its assignment came."""

    device: str
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialArrived:
    """A child edge's submission arrived and was verified as far as possible: some devices in it may be unknown."""

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
