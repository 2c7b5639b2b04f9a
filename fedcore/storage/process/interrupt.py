"""Run the one coroutine of a process: SIGINT, SIGTERM and the end of its parent process cancel it cleanly."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from fedcore.core.errors import FedcoreError
from fedcore.storage.process.orphan import parent_to_watch, watch_parent

T = TypeVar("T")


class Interrupted(FedcoreError):
    """A signal, or the end of the parent process, has stopped this process."""


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` and return its result; SIGINT, SIGTERM and the end of the parent process cancel it.

    Raises Interrupted where it was cancelled.
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
