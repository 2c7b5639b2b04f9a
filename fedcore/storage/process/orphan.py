"""Notice that the parent process has died, so that a killed fleet leaves nothing running."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PARENT_VARIABLE = "FEDCORE_PARENT"  # process id of the fleet that started this process
CHECK_S = 1.0


def parent_to_watch() -> int | None:
    """Return the process id to watch, None for a process started by hand."""
    value = os.environ.get(PARENT_VARIABLE, "")
    return int(value) if value.isdecimal() else None


async def watch_parent(parent: int | None, orphaned: Callable[[], object]) -> None:
    """Call `orphaned` once the parent has died; return at once where `parent` is None."""
    while parent is not None:
        if os.getppid() != parent:
            orphaned()
            return
        await asyncio.sleep(CHECK_S)


async def watched(work: Awaitable[T], parent: int | None) -> T:
    """Return what `work` returns; once the parent has died, raise SIGTERM in this process, which ends it in order."""
    watcher = asyncio.create_task(watch_parent(parent, lambda: signal.raise_signal(signal.SIGTERM)))
    try:
        return await work
    finally:
        watcher.cancel()
