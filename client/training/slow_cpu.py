"""An emulated slow processor."""

import time
from collections.abc import Callable

from fedcore.core.errors import ConfigError


class SlowCpu:
    """A processor `factor` times slower than this one, by sleeping after the work."""

    def __init__(self, factor: float, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Slow down by `factor` >= 1 (1 is not slowed). Raises ConfigError below 1."""
        if factor < 1:
            raise ConfigError(f"a slowdown must be at least 1, got {factor}")
        self._factor = factor
        self._sleep = sleep

    def pause(self, cpu_seconds: float) -> float:
        """Sleep (factor - 1) x `cpu_seconds`, the CPU time just spent; return the seconds slept."""
        rest_s = (self._factor - 1.0) * max(0.0, cpu_seconds)
        if rest_s > 0:
            self._sleep(rest_s)
        return rest_s
