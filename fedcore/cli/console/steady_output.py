"""Output that may be lost: a process that serves others continues when its log is full or its reader has gone."""

import os
import sys
from typing import Any, TextIO


class _Steady:
    """A text stream that redirects itself, and the file behind it, to the null device when a write fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`; a failure is not an error."""
        try:
            return self._stream.write(text)
        except OSError:
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush; a failure is not an error."""
        try:
            self._stream.flush()
        except OSError:
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        # Redirect the descriptor, not only this object: buffered text would fail again when the process ends.
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._stream.fileno())
        os.close(null)


def keep_going_without_output() -> None:
    """From now on, continue when output cannot be written; for processes that others depend on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Steady) and _has_file(stream):
            setattr(sys, name, _Steady(stream))


def _has_file(stream: Any) -> bool:
    try:
        return isinstance(stream.fileno(), int)
    except (AttributeError, OSError, ValueError):
        return False
