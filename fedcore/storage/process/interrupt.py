"""Running one piece of work to its end in a process of its own: INT, TERM and a vanished parent stop it cleanly."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from fedcore.core.errors import FedcoreError
from fedcore.storage.process.orphan import parent_to_watch, watch_parent

T = TypeVar("T")


class Interrupted(FedcoreError):
    """Somebody asked this process to stop."""


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, and return what it does; it is cancelled on INT, TERM and once the parent process is gone.

    Raises Interrupted where it was.
    """
    return asyncio.run(_interruptible(work))


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    watcher = asyncio.create_task(watch_parent(parent_to_watch(), task.cancel))
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted("stopped on request; start it again to come back to the run") from None
    finally:
        watcher.cancel()
