"""A clock that stands still until somebody moves it."""


class VirtualClock:
    """Virtual seconds since the beginning of the run; call it for the time."""

    def __init__(self, now_s: float = 0.0) -> None:
        """Begin at `now_s`."""
        self._now_s = now_s

    def __call__(self) -> float:
        """Return the time."""
        return self._now_s

    def advance(self, to_s: float) -> None:
        """Move on to `to_s`; a moment that has passed leaves the clock where it is."""
        self._now_s = max(self._now_s, to_s)
