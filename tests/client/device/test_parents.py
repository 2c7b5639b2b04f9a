"""The device's side of a round while streams break, parents change and jobs stop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from fedcore.client.device.state import StateFolder
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.device.state import Stage
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    UpdateSubmission,
    Verdict,
    WireAssignment,
)
from tests.client.conftest import WELCOME, Bench, FakeStream, broken, make_assignment
from tests.client.device.test_agent import joined, push, tell
from tests.tiny_run import PATIENCE_S

MakeBench = Callable[..., Bench]


async def test_another_assignment_takes_the_place_of_the_one_under_way(make_bench: MakeBench) -> None:
    gate = threading.Event()
    bench = await joined(make_bench(gate=gate))
    await push(bench, make_assignment(1))
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)
    await push(bench, make_assignment(2))
    gate.set()
    await bench.settled()
    assert [assignment.round for assignment, _ in bench.trainer.runs] == [1, 2]
    assert [each.round for each in bench.stream.of(UpdateSubmission)] == [2]
    assert not bench.trainer.cancel.is_set() and not bench.stream.of(AssignmentFailure)
    await bench.agent.close()


class Breaking(FakeStream):
    """Breaks on the first submission; what `then` does has happened before anybody hears of it."""

    then: Callable[[], Awaitable[None]]

    async def send(self, value: object) -> None:
        if isinstance(value, UpdateSubmission):
            await self.then()
            raise broken()


async def test_a_submission_swallowed_by_a_broken_stream_is_sent_on_the_next_one(make_bench: MakeBench) -> None:
    bench, newer = make_bench(), FakeStream()
    bench.stream = Breaking()

    async def then() -> None:  # the device is back, and the work was pushed again: nobody pushes it a third time
        await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
        await bench.agent.message(make_assignment(), newer)  # type: ignore[arg-type]

    bench.stream.then = then  # type: ignore[attr-defined]
    await push(await joined(bench), make_assignment())
    await bench.settled()
    (submission,) = newer.of(UpdateSubmission)
    assert len(bench.trainer.runs) == 1 and submission.report.repushed
    await bench.agent.close()


async def test_a_new_parent_hears_of_an_update_once_it_has_pushed_the_work_itself(make_bench: MakeBench) -> None:
    gate = threading.Event()
    bench = await joined(make_bench(gate=gate))
    await push(bench, make_assignment())
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)
    newer = FakeStream()
    await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
    gate.set()
    await bench.settled()
    assert newer.of(UpdateSubmission) == [] and bench.state.spooled_update() is not None, (
        "an edge may not know the work yet"
    )
    await bench.agent.message(make_assignment(), newer)  # type: ignore[arg-type]
    await bench.settled()
    assert len(newer.of(UpdateSubmission)) == 1 and len(bench.trainer.runs) == 1
    await bench.agent.close()


async def test_a_stream_that_breaks_without_a_new_one_leaves_the_update_for_the_next_push(
    make_bench: MakeBench,
) -> None:
    bench = make_bench()
    bench.stream = Breaking()

    async def then() -> None:
        pass

    bench.stream.then = then  # type: ignore[attr-defined]
    await push(await joined(bench), make_assignment())
    await bench.settled()
    assert bench.state.spooled_update() is not None and any("pushed again" in words for words in bench.said)
    await bench.agent.close()


async def test_a_verdict_that_comes_while_a_job_stops_is_heard(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment(1))
    await bench.settled()
    bench.trainer.gate = threading.Event()
    bench.trainer.entered.clear()
    await push(bench, make_assignment(2))
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)
    await push(bench, make_assignment(3, heads=1))
    assert bench.agent.machine.job is not None and bench.agent.machine.job.stage is Stage.STOPPING
    await tell(bench, Verdict.ACCEPTED)
    assert bench.state.keep_set() == KeepSet.from_bytes(make_assignment().keep_set.inline)
    bench.trainer.gate.set()
    await bench.settled()
    assert [submission.round for submission in bench.stream.of(UpdateSubmission)] == [1, 3]
    assert bench.trainer.runs[2][1].moments["head.bias"].step == 1, "it starts from what was committed meanwhile"
    await bench.agent.close()


async def test_a_push_on_an_older_stream_is_no_push_of_the_newest_parent(make_bench: MakeBench) -> None:
    bench, newer = await joined(make_bench()), FakeStream()
    await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
    await push(bench, make_assignment())
    await bench.settled()
    assert len(bench.trainer.runs) == 1 and bench.stream.of(UpdateSubmission) == newer.of(UpdateSubmission) == []
    await bench.agent.message(make_assignment(), newer)  # type: ignore[arg-type]
    await bench.settled()
    assert len(newer.of(UpdateSubmission)) == 1
    await bench.agent.close()


async def test_a_parent_that_changes_while_a_small_update_is_packed_hears_nothing_of_it(make_bench: MakeBench) -> None:
    bench, newer = await joined(make_bench()), FakeStream()

    async def pack(ref: BlobRef, data: bytes) -> BlobRef:
        await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
        return replace(ref, inline=data)

    bench.link.pack = pack  # type: ignore[method-assign]
    await push(bench, make_assignment())
    await bench.settled()
    assert newer.sent == [] and bench.state.spooled_update() is not None
    assert bench.said[-1].startswith("round 1: the parent has changed, and the new one has yet to push this work; ")
    await bench.agent.close()


def at_once(bench: Bench, *assignments: WireAssignment) -> None:
    """Push before anything else happens on the event loop."""
    for assignment in assignments:
        with pytest.raises(StopIteration):
            bench.agent.message(assignment, bench.stream).send(None)  # type: ignore[arg-type]


async def test_a_delivery_that_ends_at_the_moment_it_is_told_to_stop_is_told_of_once(make_bench: MakeBench) -> None:
    bench = make_bench()

    class Pushing(FakeStream):
        async def send(self, value: object) -> None:
            await super().send(value)  # type: ignore[arg-type]
            if isinstance(value, UpdateSubmission) and value.round == 1:  # the job ends before `at_once`
                asyncio.get_running_loop().call_soon(at_once, bench, make_assignment(2))

    bench.stream = Pushing()
    await push(await joined(bench), make_assignment(1))
    await bench.settled()
    assert [submission.round for submission in bench.stream.of(UpdateSubmission)] == [1, 2]
    assert [assignment.round for assignment, _ in bench.trainer.runs] == [1, 2]
    await bench.agent.close()


async def test_an_update_that_is_made_at_the_moment_its_job_is_told_to_stop_is_not_made_again(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, spool = await joined(make_bench()), StateFolder.spool

    def spooling(*arguments: Any) -> None:
        spool(*arguments)
        asyncio.get_running_loop().call_soon(at_once, bench, make_assignment(2), make_assignment(1))

    monkeypatch.setattr(StateFolder, "spool", spooling)
    await push(bench, make_assignment(1))
    await bench.settled()
    assert [submission.round for submission in bench.stream.of(UpdateSubmission)] == [1]
    assert [assignment.round for assignment, _ in bench.trainer.runs] == [1]
    await tell(bench, Verdict.ACCEPTED)
    assert bench.state.keep_set() == KeepSet.from_bytes(make_assignment().keep_set.inline)
    await bench.agent.close()


async def test_closing_stops_the_training_under_way(make_bench: MakeBench) -> None:
    bench = await joined(make_bench(gate=threading.Event()))
    await push(bench, make_assignment())
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)
    await asyncio.wait_for(bench.agent.close(), PATIENCE_S)
    assert bench.agent.machine.job is None and not bench.trainer.cancel.is_set(), "its thread is free"
    assert bench.stream.of(UpdateSubmission) == []
