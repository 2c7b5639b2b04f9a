"""The round under way at the coordinator: assignments out, updates verified and folded so far."""

from dataclasses import dataclass
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.protos.values import WireAssignment
from fedcore.server.aggregate.round_sum import RoundSum


@dataclass(slots=True, kw_only=True)
class OpenRound:
    """Mutable by the engine's one worker thread only."""

    wire_assignments: dict[str, WireAssignment]
    tally: RoundSum
    events: tuple[dict[str, Any], ...] = ()

    @property
    def round(self) -> int:
        """Its number."""
        return self.tally.round

    @property
    def keep_sets(self) -> set[str]:
        """Blobs that say what devices keep."""
        return {ref.id for assignment in self.wire_assignments.values() for ref in assignment.keep_sets}

    @property
    def assignments(self) -> dict[str, Assignment]:
        """By device."""
        return self.tally.assignments
