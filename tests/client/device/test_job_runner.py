"""Jobs one at a time, each reported once, whether it ends by itself or is told to stop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from fedcore.client.device.job_runner import JobRunner
from tests.tiny_run import PATIENCE_S


@dataclass
class Bench:
    """A runner, what it reported, and what happened in order."""

    log: list[str] = field(default_factory=list)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.runner: JobRunner[str] = JobRunner(report=self._report)

    def _report(self, value: str) -> None:
        self.log.append(value)
        self.reported.set()

    async def release(self) -> None:
        self.log.append("released")

    async def next_report(self) -> None:
        await asyncio.wait_for(self.reported.wait(), PATIENCE_S)
        self.reported.clear()

    async def job(self, value: str, gate: asyncio.Event | None = None) -> str:
        if gate is not None:
            await gate.wait()
        return value

    async def last_step(self, value: str, then: Callable[[], None]) -> str:
        """End, and have something done before the end is reported."""
        asyncio.get_running_loop().call_soon(then)
        return value


async def test_a_job_that_ends_is_reported_and_another_may_begin() -> None:
    bench = Bench()
    for value in ("one", "two"):
        bench.runner.start(bench.job(value))
        await bench.next_report()
    assert bench.log == ["one", "two"]


async def test_a_job_that_is_stopped_is_reported_once_everything_is_released() -> None:
    bench = Bench()
    bench.runner.start(bench.job("never", asyncio.Event()))
    await asyncio.sleep(0)
    bench.runner.stop(release=bench.release, stopped="stopped")
    assert bench.log == [], "not before it has ended"
    await bench.runner.wait_for_stop()
    assert bench.log == ["released", "stopped"]
    bench.reported.clear()
    bench.runner.start(bench.job("next"))
    await bench.next_report()
    assert bench.log == ["released", "stopped", "next"]


async def test_a_job_that_had_ended_by_then_is_reported_as_what_it_returned() -> None:
    bench = Bench()

    def stop() -> None:
        bench.runner.stop(release=bench.release, stopped="stopped")

    bench.runner.start(bench.last_step("done", stop))
    await bench.next_report()
    await asyncio.sleep(0)
    assert bench.log == ["released", "done"], "once"


async def test_without_a_job_nothing_stops_and_nothing_is_waited_for() -> None:
    bench = Bench()
    bench.runner.stop(release=bench.release, stopped="stopped")
    await asyncio.wait_for(bench.runner.wait_for_stop(), PATIENCE_S)
    assert bench.log == []


async def test_a_job_cancelled_from_outside_is_not_reported() -> None:
    bench = Bench()
    bench.runner.start(bench.job("never", asyncio.Event()))
    await asyncio.sleep(0)
    task = bench.runner._job
    assert task is not None
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert bench.log == []
