"""Who is online: one device's sessions over virtual time, and what the round machine hears of them.

A device that goes offline, or vanishes in the middle of its work, has left; a lease later it is lost, unless it came
back as a newer session. What it was at is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.simulation.fleet.availability import Span


@dataclass(slots=True, kw_only=True)
class Presence:
    """One device. `until_s` is when the span it is in ends; `epoch` is that of its newest session."""

    spans: Iterator[Span]
    epoch: int = 0
    here: bool = False
    from_s: float = 0.0
    until_s: float = 0.0
    back_at_s: float = 0.0  # not before: it has vanished

    def next_span(self, now_s: float) -> bool:
        """Move on to the first span that ends after `now_s`; False where there is none any more."""
        while self.until_s <= now_s:
            span = next(self.spans, None)
            if span is None:
                return False
            self.from_s, self.until_s = span
        return True

    def arrive(self) -> int:
        """Begin a session and return its epoch."""
        self.epoch, self.here = self.epoch + 1, True
        return self.epoch
