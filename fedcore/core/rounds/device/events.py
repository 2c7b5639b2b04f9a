"""What a device's shell tells its machine. `now_s` is seconds on any clock that never goes back.

`key` names the assignment. The shell ends every job with one of `WorkFinished`, `WorkFailed`, `TransferBroke`,
`DeliveryRefused`, `SpoolDamaged`, `Delivered` and `JobStopped`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcomed:
    """A session with a parent has begun; `parent` is larger than that of every earlier session."""

    parent: int
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLost:
    """The newest session has ended, and no other one has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentPushed:
    """A parent pushed an assignment, for the first time or again. It is of no use `deadline_s` later; 0: no deadline.

    `parent` is 0 for a session older than the newest one.
    """

    key: str
    round: int
    parent: int
    deadline_s: float
    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFinished:
    """The update is trained, encoded and spooled."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkFailed:
    """The assignment cannot be carried out, or its update not be delivered, and another attempt would not help."""

    key: str
    message: str
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferBroke:
    """A download or an upload ended without success; another attempt may help."""

    key: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRefused:
    """The parent has no open assignment that the update could answer."""

    key: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolDamaged:
    """The spooled update cannot be read any more."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The submission is on its way, its update uploaded; the verdict follows."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStopped:
    """What `StopJob` asked for is done: no thread works on the assignment any more."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictArrived:
    """The word on an update of `round`; `reason` says why it does not count."""

    round: int
    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """`round` is closed durably: no further update of it, or of an earlier round, can count."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time passed."""

    now_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """The process ends."""


Ending = WorkFinished | WorkFailed | TransferBroke | DeliveryRefused | SpoolDamaged | Delivered | JobStopped
Event = Welcomed | SessionLost | AssignmentPushed | Ending | VerdictArrived | RoundClosed | Tick | Stop
