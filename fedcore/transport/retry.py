"""Retry a transfer: a second try helps only against a broken link and against bytes with a wrong hash."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fedcore.core.errors import BlobCorrupt, TransportError

T = TypeVar("T")

TRIES = 5
PAUSE_S = 1.0


async def retrying(transfer: Callable[[], Awaitable[T]], *, tries: int = TRIES, pause_s: float = PAUSE_S) -> T:
    """Call `transfer` up to `tries` times and return its result; raises what the last try raised."""
    for _ in range(tries - 1):
        try:
            return await transfer()
        except (TransportError, BlobCorrupt):
            await asyncio.sleep(pause_s)
    return await transfer()
