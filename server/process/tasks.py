"""Background tasks and the one worker thread of a run: calls run in order, and the first failure ends the run."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks:
    """The tasks of one run. Lives on the event loop. `over` ends with the run: with its closing word, or an error."""

    def __init__(self) -> None:
        """Begin with nothing to do."""
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = self._loop.create_future()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._tasks: set[asyncio.Task[None]] = set()
        self._fault: BaseException | None = None  # the first one after the end

    async def in_worker(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function on the worker thread, after all earlier calls, and return its result."""
        return await self._loop.run_in_executor(self._worker, function, *arguments)

    def submit(self, function: Callable[..., T], *arguments: Any) -> "asyncio.Future[T]":
        """Queue a call on the worker thread now; the future has its result."""
        return self._loop.run_in_executor(self._worker, function, *arguments)

    def hand_over(
        self, function: Callable[..., None], *arguments: Any, failing: Callable[[BaseException], Exception]
    ) -> None:
        """Queue a call on the worker thread and do not wait; if it fails, the run ends with `failing(cause)`."""

        def done(future: "Future[None]") -> None:
            if not future.cancelled() and (cause := future.exception()) is not None:
                self._loop.call_soon_threadsafe(self.end, failing(cause))

        self._worker.submit(function, *arguments).add_done_callback(done)

    def later(self, delay_s: float, act: Callable[[], None]) -> asyncio.TimerHandle:
        """Call `act` on the event loop in `delay_s` seconds, unless the handle is cancelled."""
        return self._loop.call_later(delay_s, act)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background; if it fails, the run ends with its error."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def end(self, result: str | BaseException) -> None:
        """End the run; keep a failure after the end for `settle`."""
        if self.over.done():
            if isinstance(result, BaseException) and self._fault is None:
                self._fault = result
        elif isinstance(result, str):
            self.over.set_result(result)
        else:
            self.over.set_exception(result)

    async def settle(self) -> None:
        """Wait until all tasks and calls so far are done; raises the first error since the end."""
        while self._tasks:
            # Not gather: from Python 3.12 on it returns at once where all are done, and `_reap` never gets its turn.
            await asyncio.wait(tuple(self._tasks))
        await self.in_worker(lambda: None)
        if self._fault is not None:
            raise self._fault

    async def close(self) -> None:
        """Cancel all tasks and queued calls, and let the worker finish its current call."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        if self.over.done() and not self.over.cancelled():
            self.over.exception()  # retrieved, or asyncio would log it if no task awaits `over`

    def _reap(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.end(error)
