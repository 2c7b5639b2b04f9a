"""Emulation of a slower device: after each piece of work, a pause in proportion to the time that the work took."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Emulates a slower device: after each piece of work, `pause` gets the seconds `clock` says it took."""

    clock: Callable[[], float]  # own CPU seconds; on an accelerator, seconds
    pause: Callable[[float], None]


@contextmanager
def paced(pace: Pace | None) -> Iterator[None]:
    """Run a block as one piece of work; without a pace, nothing is added."""
    start = pace.clock() if pace is not None else 0.0
    yield
    if pace is not None:
        pace.pause(pace.clock() - start)
