"""A device stops when its round can no longer count, and never before: 10 s after a push in `make_assignment`."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace

from fedcore.core.rounds.device.state import Stage
from fedcore.protos.values import RoundClosed, UpdateSubmission, WireAssignment
from tests.client.conftest import WELCOME, Bench, FakeStream, FakeTime, make_assignment
from tests.tiny_run import PATIENCE_S

MakeBench = Callable[..., Bench]


class Stuck(FakeStream):
    """Never gets a submission through."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = asyncio.Event()

    async def send(self, value: object) -> None:
        self.entered.set()
        if isinstance(value, UpdateSubmission):
            await asyncio.Event().wait()


async def training(bench: Bench, assignment: WireAssignment) -> None:
    """Join, and return once training for the assignment is under way."""
    await bench.agent.welcome(WELCOME, bench.stream)  # type: ignore[arg-type]
    await bench.agent.message(assignment, bench.stream)  # type: ignore[arg-type]
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)


def stage(bench: Bench) -> Stage | None:
    return None if bench.agent.machine.job is None else bench.agent.machine.job.stage


async def test_training_stops_when_the_deadline_has_passed_in_full(make_bench: MakeBench) -> None:
    time, gate = FakeTime(), threading.Event()
    bench = make_bench(time=time, gate=gate)
    await training(bench, make_assignment(1))
    time.pass_by(9.99)
    assert stage(bench) is Stage.WORKING
    time.pass_by(0.01)
    await bench.settled()
    assert bench.said[1:] == ["round 1 has passed its deadline: its update can no longer count, so work on it stops"]
    assert bench.stream.sent == [] and not bench.trainer.cancel.is_set()
    gate.set()
    await bench.agent.message(make_assignment(2), bench.stream)  # type: ignore[arg-type]
    await bench.settled()
    assert [submission.round for submission in bench.stream.of(UpdateSubmission)] == [2]
    await bench.agent.close()


async def test_an_assignment_pushed_again_has_its_whole_deadline_from_then_on(make_bench: MakeBench) -> None:
    time, gate = FakeTime(), threading.Event()
    bench = make_bench(time=time, gate=gate)
    await training(bench, make_assignment())
    time.pass_by(8.0)
    await bench.agent.message(make_assignment(), bench.stream)  # type: ignore[arg-type]
    assert [timer.at_s for timer in time.timers if not timer.cancelled] == [118.0]
    time.pass_by(9.0)
    gate.set()
    await bench.settled()
    assert len(bench.stream.of(UpdateSubmission)) == len(bench.trainer.runs) == 1
    await bench.agent.close()
    assert all(timer.cancelled for timer in time.timers)


async def test_a_finished_update_outlives_its_deadline_for_a_round_that_is_opened_anew(make_bench: MakeBench) -> None:
    time, stuck, newer = FakeTime(), Stuck(), FakeStream()
    bench = make_bench(time=time)
    bench.stream = stuck
    await training(bench, make_assignment())
    await asyncio.wait_for(stuck.entered.wait(), PATIENCE_S)
    while stage(bench) is not Stage.DELIVERING:  # noqa: ASYNC110, as short as it gets
        await asyncio.sleep(0.001)
    time.pass_by(10.0)
    await bench.settled()
    assert bench.said[-1] == "round 1 has passed its deadline: its update can no longer count, so it is not sent"
    assert stuck.of(UpdateSubmission) == [] and bench.state.spooled_update() is not None
    await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
    await bench.agent.message(make_assignment(), newer)  # type: ignore[arg-type]
    await bench.settled()
    assert len(newer.of(UpdateSubmission)) == len(bench.trainer.runs) == 1
    await bench.agent.close()


async def test_an_assignment_without_a_deadline_is_worked_on_however_long_it_takes(make_bench: MakeBench) -> None:
    time, gate = FakeTime(), threading.Event()
    bench = make_bench(time=time, gate=gate)
    await training(bench, replace(make_assignment(), deadline_s=0.0))
    time.pass_by(1e9)
    gate.set()
    await bench.settled()
    assert time.timers == [] and len(bench.stream.of(UpdateSubmission)) == 1
    await bench.agent.close()


async def test_training_outlives_its_deadline_while_no_parent_is_there(make_bench: MakeBench) -> None:
    time, gate, newer = FakeTime(), threading.Event(), FakeStream()
    bench = make_bench(time=time, gate=gate)
    await training(bench, make_assignment())
    bench.agent.session_lost()
    time.pass_by(60.0)
    assert stage(bench) is Stage.WORKING, "a coordinator that is started again opens the round anew"
    await bench.agent.welcome(WELCOME, newer)  # type: ignore[arg-type]
    time.pass_by(29.0)
    assert stage(bench) is Stage.WORKING
    await bench.agent.message(make_assignment(), newer)  # type: ignore[arg-type]
    time.pass_by(9.0)
    gate.set()
    await bench.settled()
    assert len(newer.of(UpdateSubmission)) == len(bench.trainer.runs) == 1
    await bench.agent.close()


async def test_training_that_no_parent_wants_after_a_reconnect_stops(make_bench: MakeBench) -> None:
    time = FakeTime()
    bench = make_bench(time=time, gate=threading.Event())
    await training(bench, make_assignment())
    bench.agent.session_lost()
    time.pass_by(60.0)
    await bench.agent.welcome(WELCOME, FakeStream())  # type: ignore[arg-type]
    time.pass_by(30.0)
    await bench.settled()
    assert bench.said[-1] == "round 1 has passed its deadline: its update can no longer count, so work on it stops"
    await bench.agent.close()


async def test_without_a_fake_the_event_loops_timer_keeps_the_deadline(make_bench: MakeBench) -> None:
    bench = make_bench(gate=threading.Event())
    await training(bench, replace(make_assignment(), deadline_s=0.05))
    await bench.settled()
    assert bench.said[-1] == "round 1 has passed its deadline: its update can no longer count, so work on it stops"
    await bench.agent.close()


async def test_the_close_of_a_round_stops_the_training_for_it(make_bench: MakeBench) -> None:
    bench = make_bench(gate=threading.Event())
    await training(bench, make_assignment(2))
    for number in (1, 2):
        assert stage(bench) is Stage.WORKING
        await bench.agent.message(RoundClosed(round=number), bench.stream)  # type: ignore[arg-type]
    await bench.settled()
    assert bench.said[1:] == ["round 2 has closed: its update can no longer count, so work on it stops"]
    assert bench.stream.sent == []
    await bench.agent.close()
