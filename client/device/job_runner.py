"""One asyncio task at a time, which can be told to stop, and whose end is reported exactly once."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class JobRunner(Generic[T]):
    """Runs one job at a time and passes what it returned to `report`, on the event loop."""

    report: Callable[[T], None]
    _job: asyncio.Task[T] | None = None
    _stop: asyncio.Task[None] | None = None  # of that job

    def start(self, job: Coroutine[Any, Any, T]) -> None:
        """Begin a job; the one before it was reported."""
        self._job, self._stop = asyncio.create_task(job), None
        self._job.add_done_callback(self._done)

    def stop(self, *, release: Callable[[], Awaitable[None]], stopped: T) -> None:
        """Cancel the job; once it has ended and `release` is through, report what it returned, or `stopped`."""
        if self._job is not None:
            self._job.cancel()
            self._stop = asyncio.create_task(self._wait(self._job, release, stopped))

    async def wait_for_stop(self) -> None:
        """Return once a job that was told to stop has been reported."""
        if self._stop is not None:
            await self._stop

    def _done(self, job: "asyncio.Task[T]") -> None:
        if self._stop is None and not job.cancelled():  # a job that stops is reported by `_wait`
            self.report(job.result())

    async def _wait(self, job: "asyncio.Task[T]", release: Callable[[], Awaitable[None]], stopped: T) -> None:
        (returned,) = await asyncio.gather(job, return_exceptions=True)
        await release()
        self.report(stopped if isinstance(returned, BaseException) else returned)
