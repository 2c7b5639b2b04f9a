"""What an edge's machine asks of its shell, to be done in the order given."""

from dataclasses import dataclass

from fedcore.core.rounds.tier.state import Decision, PartialId


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Hand the assignment on to the device, or to the child edge above it."""

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
    """Tell a device what became of its update."""

    device: str
    round: int
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChild:
    """Tell a child edge what became of its submission."""

    part: PartialId
    round: int
    decision: Decision
    devices: tuple[str, ...] = ()  # with OVERLAP: counted already


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Pass on everything folded, under this number, and begin a new, empty sum."""

    number: int
    round: int
    devices: tuple[str, ...]
    failed: tuple[str, ...]
    parts: tuple[PartialId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAgain:
    """The answer to this submission may have been lost: send it again, unchanged."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """Everything spooled for this round may go."""

    round: int


Command = Push | Fold | MergePartial | Acknowledge | AnswerChild | Send | SendAgain | Forget
