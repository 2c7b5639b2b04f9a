"""The events that the shell feeds to the round machine. `now_s` is seconds on any clock that never goes back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The run begins (or goes on): the wait for devices starts counting."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """A device opened a stream and passed the checks of a join. Newer sessions have larger epochs."""

    device: str
    epoch: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The stream of this session closed; the device keeps its lease and may come back.

    `lost` is True if the device's parent saw the lease expire: then the lease is over here too.
    """

    device: str
    epoch: int
    now_s: float
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """Any message of this session came in: it renews the lease."""

    device: str
    epoch: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateArrived:
    """An update was fully uploaded and verified against its assignment; the machine's answer says whether it counts."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRefused:
    """An upload did not fit its assignment, or the device failed; its part in this round is over."""

    device: str
    round: int
    now_s: float
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialArrived:
    """An edge's partial was verified against the assignments of all its devices; they count together or not at all."""

    edge: str
    number: int  # of the submission, among this edge's
    round: int
    device_times: tuple[tuple[str, float], ...]  # (device, seconds from pushed to accepted at its parent)
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The answer to `Turn`: committed, and these devices have an assignment. Empty: there was no device to plan for."""

    round: int
    cohort: tuple[str, ...]
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnDone:
    """The answer to a `Turn` without a next round: the last result is durable."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time passed; expected at the time the last `WakeAt` named, welcome at any other."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """A request to stop the run. The open round is abandoned; the run can be continued."""

    now_s: float


Event = (
    Started | Joined | Left | Alive | UpdateArrived | UpdateRefused | PartialArrived | Planned | TurnDone | Tick | Stop
)
