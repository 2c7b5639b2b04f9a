"""Work beside the loop: in order on one thread, and the first thing that fails ends the run."""

import asyncio
import threading

import pytest

from fedcore.core.errors import RunError
from fedcore.server.process.tasks import Tasks
from tests.tiny_run import PATIENCE_S


async def ended(tasks: Tasks) -> str:
    return await asyncio.wait_for(asyncio.shield(tasks.over), PATIENCE_S)


async def test_the_worker_works_in_the_order_things_were_handed_over() -> None:
    tasks, done, gate = Tasks(), list[str](), threading.Event()

    def first() -> None:
        gate.wait(PATIENCE_S)
        done.append("first")

    tasks.hand_over(first, failing=lambda cause: RunError("no"))
    second = tasks.submit(done.append, "second")  # queued now, awaited later
    tasks.hand_over(done.append, "third", failing=lambda cause: RunError("no"))
    fourth = asyncio.ensure_future(tasks.in_worker(done.append, "fourth"))
    gate.set()
    await asyncio.gather(second, fourth)
    assert done == ["first", "second", "third", "fourth"] and not tasks.over.done()
    await tasks.close()


async def test_what_is_handed_over_and_fails_ends_the_run_with_its_own_words() -> None:
    tasks = Tasks()

    def fail() -> None:
        raise KeyError("ada")

    tasks.hand_over(fail, failing=lambda cause: RunError(f"counting failed ({cause!r})"))
    with pytest.raises(RunError, match=r"counting failed \(KeyError\('ada'\)\)"):
        await ended(tasks)
    await tasks.close()


async def test_a_task_that_fails_ends_the_run_and_one_that_is_cancelled_does_not() -> None:
    tasks = Tasks()

    async def fail() -> None:
        raise RunError("broken")

    async def wait() -> None:
        await asyncio.Event().wait()

    tasks.spawn(wait())
    await asyncio.sleep(0)
    tasks.spawn(fail())
    with pytest.raises(RunError, match="broken"):
        await ended(tasks)
    await tasks.close()


async def test_in_worker_tells_its_caller_and_nobody_else() -> None:
    tasks = Tasks()
    with pytest.raises(ZeroDivisionError):
        await tasks.in_worker(lambda: 1 // 0)
    assert not tasks.over.done()
    await tasks.close()


async def test_the_first_end_counts_and_settling_tells_what_failed_since() -> None:
    tasks = Tasks()
    tasks.end("finished")
    tasks.end("paused")
    assert await ended(tasks) == "finished"
    await tasks.settle()
    tasks.end(RunError("the last write failed"))
    tasks.end(RunError("another"))
    with pytest.raises(RunError, match="the last write failed"):
        await tasks.settle()
    await tasks.close()


async def test_settling_waits_for_what_was_begun() -> None:
    tasks, done = Tasks(), list[str]()

    async def slow() -> None:
        await asyncio.sleep(0.01)
        tasks.hand_over(done.append, "worked", failing=lambda cause: RunError("no"))

    tasks.spawn(slow())
    await asyncio.wait_for(tasks.settle(), PATIENCE_S)
    assert done == ["worked"]
    await tasks.close()


async def test_closing_drops_what_waits_and_lets_the_worker_finish() -> None:
    tasks, done, gate, begun = Tasks(), list[str](), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        gate.wait(PATIENCE_S)
        done.append("finished")

    async def wait() -> None:
        await asyncio.Event().wait()

    tasks.hand_over(work, failing=lambda cause: RunError("no"))
    tasks.hand_over(done.append, "never", failing=lambda cause: RunError("no"))
    tasks.spawn(wait())
    await asyncio.to_thread(begun.wait, PATIENCE_S)
    closing = asyncio.ensure_future(tasks.close())
    await asyncio.sleep(0.01)
    gate.set()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert done == ["finished"] and not tasks.over.done()
