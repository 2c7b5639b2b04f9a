"""One device's sessions over virtual time.

A device that goes offline, or vanishes in the middle of its work, has left. One lease later it is lost, unless a newer
session has begun. Its unfinished work is dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.simulation.fleet.availability import Span


@dataclass(slots=True, kw_only=True)
class Presence:
    """One device: its current or next span, from `from_s` until `until_s`, and the epoch of its newest session."""

    spans: Iterator[Span]
    epoch: int = 0
    here: bool = False
    from_s: float = 0.0
    until_s: float = 0.0
    back_at_s: float = 0.0  # a device that vanished stays away until then

    def next_span(self, now_s: float) -> bool:
        """Advance to the first span that ends after `now_s`; return False where there is none left."""
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
