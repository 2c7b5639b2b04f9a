"""What a device's machine asks of its shell, to be done in the order given."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWork:
    """Download what the assignment names, train, encode, and spool the update."""

    key: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliver:
    """Send the spooled update; before every transfer ask `DeviceState.may_send`."""

    key: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StopJob:
    """Stop what `StartWork` or `Deliver` began, and say `JobStopped` unless it ended otherwise."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Keep for good what training for this round left in memory: the keep-set and the training state."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitSpooled:
    """Keep for good the keep-set of the spooled update: an earlier process trained it, its training state is gone."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Forget what training for this round left in memory; the next assignment starts from what was committed."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearSpool:
    """Delete the spooled update, sound or damaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFailure:
    """Tell the parent that the assignment of this round cannot be carried out."""

    round: int
    message: str
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Send a `Tick` at this time; an earlier wish is void."""

    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Tell the person at the device."""

    text: str


Command = StartWork | Deliver | StopJob | Commit | CommitSpooled | RollBack | ClearSpool | ReportFailure | WakeAt | Say
