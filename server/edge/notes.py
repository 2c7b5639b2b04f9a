"""What an edge tells its metrics: the events a coordinator would log, as far as they happen here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.protos.tier_values import LeafOutcome
from fedcore.server.run.records import leaf_record
from fedcore.server.run.run_log import Observer


@dataclass(frozen=True, slots=True)
class EdgeNotes:
    """Passes everything on to `observers`; an edge keeps no log of its own."""

    observers: Sequence[Observer] = ()

    def event(self, kind: str, **fields: Any) -> None:
        """One event."""
        for observer in self.observers:
            observer.event(kind, fields)

    def outcomes(self, leaves: Sequence[LeafOutcome]) -> None:
        """What goes up of devices on streams of our own."""
        if self.observers:
            rows = [leaf_record(leaf) for leaf in leaves]
            for observer in self.observers:
                observer.rows(rows)
