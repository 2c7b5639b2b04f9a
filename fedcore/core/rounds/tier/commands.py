"""The commands of an edge's machine to its shell, to be done in the order given."""

from dataclasses import dataclass

from fedcore.core.rounds.tier.state import Decision, PartialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Pass the assignment on to the device, or to the child edge above it."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Fold this device's spooled update into what the next submission carries."""

    device: str
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePartial:
    """Merge this spooled submission of a child into what the next submission carries."""

    part: PartialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """Tell a device the decision on its update."""

    device: str
    round: int
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChild:
    """Tell a child edge the decision on its submission."""

    part: PartialId
    round: int
    decision: Decision
    devices: tuple[str, ...] = ()  # with OVERLAP: counted already


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send the whole sum up under this number, and begin a new, empty sum."""

    number: int
    round: int
    devices: tuple[str, ...]
    failed: tuple[str, ...]
    parts: tuple[PartialId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """Send this submission again, unchanged: its answer may have been lost."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Drop everything spooled for this round."""

    round: int


Command = Push | Fold | MergePartial | Acknowledge | AnswerChild | Send | SendAgain | Forget
