"""The round under way: assignments out, updates verified and folded so far."""

from dataclasses import dataclass, field
from typing import Any

from fedcore.assignment import Assignment
from fedcore.outcome import GroupScores
from fedcore.update import Update
from protos.values import UpdateSubmission, Work


@dataclass(slots=True, kw_only=True)
class Arrived:
    """A verified update. `scores` are None where none were asked for."""

    submission: UpdateSubmission
    update: Update
    scores: GroupScores | None


@dataclass(slots=True, kw_only=True)
class OpenRound:
    """Mutable by the engine's one worker thread only."""

    round: int
    assignments: dict[str, Assignment]
    works: dict[str, Work]
    partial: Any
    events: tuple[dict[str, Any], ...] = ()
    arrived: dict[str, Arrived] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)
    aggregate_s: float = 0.0  # verifying and folding
    fold_s: dict[str, float] = field(default_factory=dict)  # the same by device

    def spent(self, device: str, seconds: float) -> None:
        """Note time spent on verifying or folding a device's update."""
        self.aggregate_s += seconds
        self.fold_s[device] = self.fold_s.get(device, 0.0) + seconds
