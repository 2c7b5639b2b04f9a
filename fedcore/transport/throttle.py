"""Emulate a thin link."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fedcore.core.errors import ConfigError


class Throttle:
    """A token bucket over one direction of a link.

    An idle link earns no credit, so `take` of n bytes never returns sooner than n bytes take at the given rate.
    Concurrent calls queue in the order in which they were made.
    """

    def __init__(
        self,
        bits_per_second: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Limit the link to `bits_per_second`; 0 or None is unlimited. Raises ConfigError for a negative rate."""
        if bits_per_second is not None and bits_per_second < 0:
            raise ConfigError(f"a link's rate must be 0 (unlimited) or more bits per second, got {bits_per_second}")
        self._bytes_per_s = (bits_per_second or 0.0) / 8
        self._clock = clock
        self._sleep = sleep
        self._free_at_s = float("-inf")  # when the link will have carried everything taken so far

    @property
    def bits_per_second(self) -> float:
        """The limit; 0 is unlimited."""
        return self._bytes_per_s * 8

    async def take(self, num_bytes: int) -> None:
        """Wait until the link would have carried `num_bytes` more bytes."""
        if not self._bytes_per_s or num_bytes <= 0:
            return
        now_s = self._clock()
        self._free_at_s = max(now_s, self._free_at_s) + num_bytes / self._bytes_per_s
        await self._sleep(self._free_at_s - now_s)
