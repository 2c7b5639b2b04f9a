"""A clock that stands still until it is advanced."""


class VirtualClock:
    """Virtual seconds since the beginning of the run; calling it returns the time."""

    def __init__(self, now_s: float = 0.0) -> None:
        """Begin at `now_s`."""
        self._now_s = now_s

    def __call__(self) -> float:
        """Return the time."""
        return self._now_s

    def advance(self, to_s: float) -> None:
        """Advance to `to_s`; an earlier time leaves the clock unchanged."""
        self._now_s = max(self._now_s, to_s)
