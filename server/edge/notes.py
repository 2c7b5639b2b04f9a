"""The events of an edge, for its metrics: those that a coordinator would log."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.protos.tier_values import LeafOutcome
from fedcore.server.run.records import relayed_record
from fedcore.server.run.run_log import Observer


@dataclass(frozen=True, slots=True)
class EdgeNotes:
    """Passes events on to `observers`; an edge keeps no log of its own."""

    observers: Sequence[Observer] = ()

    def event(self, kind: str, **fields: Any) -> None:
        """Report one event."""
        for observer in self.observers:
            observer.event(kind, fields)

    def outcomes(self, outcomes: Sequence[LeafOutcome]) -> None:
        """Report the outcomes of devices on streams of this edge."""
        if self.observers:
            rows = [relayed_record(outcome) for outcome in outcomes]
            for observer in self.observers:
                observer.rows(rows)
