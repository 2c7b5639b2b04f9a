"""One task at a time for the evaluator: repeated when it comes back, given up when it stays silent."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from fedcore.protos.values import (
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportTask,
    GlobalAdapter,
    Role,
    TaskKind,
)
from fedcore.server.members.sessions import Session
from fedcore.server.rounds.evaluator_queue import EvaluatorQueue
from tests.server.members.test_admission import JOIN
from tests.tiny_run import PATIENCE_S


def ref(digit: str) -> BlobRef:
    return BlobRef(id="sha256:" + digit * 64, size=1)


def task(number: int) -> EvaluateTask:
    adapter = GlobalAdapter(round=number, rank_blocks=(ref(str(number)),), head=ref("a"))
    return EvaluateTask(adapter=adapter, rows=5, lora_scale=2.0)


def evaluator(name: str = "eval") -> Session:
    return Session(replace(JOIN, role=Role.EVALUATOR, name=name, profile=None))


def queue() -> tuple[EvaluatorQueue, list[tuple[TaskKind, EvaluatorResult]]]:
    results: list[tuple[TaskKind, EvaluatorResult]] = []
    return EvaluatorQueue(on_result=lambda kind, result: results.append((kind, result))), results


def inbox(session: Session) -> list[Any]:
    return [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]


def done(number: int) -> EvaluatorResult:
    return EvaluatorResult(id=number, outcome=None, error="x")


async def test_tasks_are_handed_out_one_by_one_in_order() -> None:
    evaluators, results = queue()
    session = evaluator()
    for number in (1, 2):
        evaluators.add(task(number))
    evaluators.connect(session, 0.0)
    assert inbox(session) == [EvaluatorTask(id=1, kind=task(1))]
    evaluators.take_result(session, done(1))
    assert inbox(session) == [EvaluatorTask(id=2, kind=task(2))]
    evaluators.take_result(session, done(2))
    assert [kind for kind, _ in results] == [task(1), task(2)] and evaluators.idle.is_set()


async def test_who_comes_back_gets_the_task_it_was_at() -> None:
    evaluators, _ = queue()
    first, second = evaluator(), evaluator()
    evaluators.add(task(1))
    evaluators.connect(first, 0.0)
    evaluators.disconnect(first)
    evaluators.connect(second, 1.0)
    assert inbox(second) == [EvaluatorTask(id=1, kind=task(1))] == inbox(first)
    evaluators.disconnect(first)
    assert evaluators.session is second, "the older stream's end is no news"


async def test_a_second_evaluator_takes_the_seat() -> None:
    evaluators, _ = queue()
    first, second = evaluator("one"), evaluator("two")
    evaluators.connect(first, 0.0)
    evaluators.connect(second, 0.0)
    assert inbox(first) == [None]
    evaluators.add(task(1))
    assert inbox(second) == [EvaluatorTask(id=1, kind=task(1))]


@pytest.mark.parametrize("case", ["other task", "other session", "twice"])
async def test_a_result_nobody_waits_for_is_ignored(case: str) -> None:
    evaluators, results = queue()
    session = evaluator()
    evaluators.connect(session, 0.0)
    evaluators.add(task(1))
    if case == "other session":
        evaluators.take_result(evaluator(), done(1))
    elif case == "other task":
        evaluators.take_result(session, done(7))
    else:
        evaluators.take_result(session, done(1))
        evaluators.take_result(session, done(1))
    assert len(results) == (case == "twice")


async def test_the_end_waits_for_every_task() -> None:
    evaluators, _ = queue()
    session = evaluator()
    evaluators.connect(session, 0.0)
    evaluators.add(task(1))
    waiting = asyncio.ensure_future(evaluators.drained(5.0, lambda: 0.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    evaluators.take_result(session, done(1))
    assert await asyncio.wait_for(waiting, PATIENCE_S) is True


async def test_the_end_does_not_wait_for_an_evaluator_that_never_came() -> None:
    evaluators, _ = queue()
    evaluators.add(task(1))
    assert await asyncio.wait_for(evaluators.drained(1e9, lambda: 0.0), PATIENCE_S) is False


async def test_the_end_waits_for_an_evaluator_that_is_known_to_come() -> None:
    evaluators, _ = queue()
    evaluators.expected = True
    evaluators.add(task(1))
    now = [1e6]  # nothing was heard since long before the end began
    waiting = asyncio.ensure_future(evaluators.drained(10.0, lambda: now[0]))
    await asyncio.sleep(0.01)
    session = evaluator()
    evaluators.connect(session, now[0])
    evaluators.take_result(session, done(1))
    assert await asyncio.wait_for(waiting, PATIENCE_S) is True
    evaluators.add(task(2))
    evaluators.disconnect(session)
    asyncio.get_running_loop().call_later(0.02, lambda: now.__setitem__(0, 1e6 + 11.0))
    assert await asyncio.wait_for(evaluators.drained(10.0, lambda: now[0]), PATIENCE_S) is False


async def test_a_silent_evaluator_is_given_up() -> None:
    evaluators, _ = queue()
    now = [0.0]
    evaluators.connect(evaluator(), 0.0)
    evaluators.add(task(1))
    loop = asyncio.get_running_loop()
    loop.call_later(0.02, lambda: now.__setitem__(0, 11.0))
    assert await asyncio.wait_for(evaluators.drained(10.0, lambda: now[0]), PATIENCE_S) is False


async def test_nothing_to_do_is_drained_at_once() -> None:
    assert await asyncio.wait_for(queue()[0].drained(1.0, lambda: 0.0), PATIENCE_S) is True


async def test_blobs_of_open_tasks_are_named() -> None:
    evaluators, _ = queue()
    session = evaluator()
    evaluators.connect(session, 0.0)
    evaluators.add(task(1))
    kind = ExportTask(device_class="agx", adapter=task(2).adapter, keep_set=ref("c"), lora_scale=2.0)
    evaluators.add(kind)
    assert evaluators.blobs() == {ref(digit).id for digit in "12ac"}
    evaluators.take_result(session, done(1))
    assert evaluators.blobs() == {ref(digit).id for digit in "2ac"}


@pytest.mark.parametrize(("now_s", "patient"), [(17.9, True), (18.0, False)])
async def test_the_wait_counts_from_the_last_sign_of_life(now_s: float, patient: bool) -> None:
    """An export takes longer than the silence that ends a run; its evaluator beats meanwhile."""
    session = evaluator()
    evaluators, _ = queue()
    evaluators.session, evaluators.expected, evaluators.last_sign_s = session, True, 8.0
    evaluators.add(task(1))
    times = iter([0.0, now_s])  # as the wait begins, and as it looks for the first time
    waiting = asyncio.ensure_future(evaluators.drained(10.0, lambda: next(times)))
    await asyncio.sleep(0)
    assert waiting.done() is not patient
    evaluators.take_result(session, done(1))
    assert await asyncio.wait_for(waiting, PATIENCE_S) is patient
