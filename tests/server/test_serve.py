"""How a run pauses, fails and goes on: signals, voids, faults of disk and arithmetic, and the same choices after."""

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.protos.values import EvaluatorTask, Role, Welcome
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.global_file import GLOBALS_KEPT
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.run.inspect_run import replay_run, run_status
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from tests.fake_device import FakeDevice, Fault
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving

Together = Callable[..., Any]

FIXED = ["run.rounds=4", "strategy.name=fedspine", "strategy.bandit=fixed", "strategy.ranks=[1, 2]"]
FIXED += ["strategy.target_sparsity=0.5", "strategy.warmup_rounds=1", "strategy.recovery_rounds=1"]
FIXED += ["strategy.pace=off"]  # measured times decide arms, and two runs are compared


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def ended(served: Served) -> str:
    """The words with which a run ended early."""
    with pytest.raises(RunError) as caught:
        await served.summary()
    return str(caught.value)


async def leave(running: "asyncio.Future[Any]") -> None:
    """Wait for devices whose coordinator has gone."""
    await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), PATIENCE_S)


def choices(folder: RunFolder, number: int) -> list[Json]:
    """What was assigned for a round, as the ledger has it."""
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        held = ledger.load()
    finally:
        ledger.close()
    assert held.next_round == number
    return list(held.assignments)


async def test_a_stop_while_waiting_for_devices_pauses_the_run(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        stop()
        assert "stopped on request in round 1" in await ended(served)
    assert run_status(served.folder)["next_round"] == 1
    async with serving(tmp_path / "run", tiny.folder, resume=True):
        pass  # the folder's lock is free again, and the ledger is whole


async def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    def devices(served: Served, place: str, **options: Any) -> list[FakeDevice]:
        return [tiny.device(served, name, tmp_path / place, **options) for name in ("d0", "d1")]

    async with serving(tmp_path / "whole", tiny.folder, FIXED) as whole:
        await together(*devices(whole, "a"))
        await whole.summary()

    async def hold(assignment: Any) -> None:
        if assignment.round == 3:
            await asyncio.Event().wait()

    async with serving(tmp_path / "cut", tiny.folder, FIXED) as cut:
        members = devices(cut, "b", hold=hold)
        running = [asyncio.ensure_future(device.run()) for device in members]
        await cut.until("pushed", 6)
        planned = choices(cut.folder, 3)
        before = [each for each in cut.events("choice") if each["round"] == 3]
        stop()
        assert "stopped on request in round 3; this round starts anew" in await ended(cut)
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=PATIENCE_S)
    assert choices(cut.folder, 3) == planned
    async with serving(tmp_path / "cut", tiny.folder, resume=True) as resumed:
        again = devices(resumed, "b")
        for device, earlier in zip(again, members, strict=True):
            device.epoch = earlier.epoch
        await together(*again)
        summary = await resumed.summary()
    after = [each for each in resumed.events("choice") if each["round"] == 3]
    assert [{**each, "t": 0} for each in after] == [{**each, "t": 0} for each in before], "once, and the same"
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3, 4]
    assert [assignment.seed for assignment in again[0].assignments] == [
        assignment.seed for assignment in members[0].assignments[2:]
    ] + [again[0].assignments[1].seed]
    assert replay_run(resumed.folder) == 8
    names = [path.name for path in sorted(whole.folder.globals.iterdir())]
    assert names == [path.name for path in sorted(resumed.folder.globals.iterdir())] and len(names) == GLOBALS_KEPT
    for name in names:
        assert (whole.folder.globals / name).read_bytes() == (resumed.folder.globals / name).read_bytes()


async def test_a_coordinator_that_comes_back_sends_nobody_home(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = [*FIXED, f"coordinator.listen=127.0.0.1:{free_port()}"]
    gate = asyncio.Event()

    async def hold(assignment: Any) -> None:
        if assignment.round == 2:
            await gate.wait()

    async with serving(tmp_path / "run", tiny.folder, settings, comes_back=True) as served:
        devices = [tiny.device(served, name, tmp_path, hold=hold, reconnect_s=PATIENCE_S) for name in ("d0", "d1")]
        running = asyncio.ensure_future(together(*devices))
        await served.until("pushed", 4)
        stop()
        assert "stopped on request" in await ended(served)
    gate.set()
    async with serving(tmp_path / "run", tiny.folder, resume=True, comes_back=True) as resumed:
        assert await running == ["the run has finished"] * 2, "the same devices, never started again"
        assert [each["round"] for each in (await resumed.summary())["rounds"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("twice", [False, True])
async def test_a_stop_during_a_commit_lets_it_end(
    twice: bool, tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), asyncio.Event()
    loop, real = asyncio.get_running_loop(), Engine.turn

    def slow(engine: Engine, command: Any, *rest: Any) -> Any:
        if command.closed is not None:
            loop.call_soon_threadsafe(entered.set)
            assert gate.wait(PATIENCE_S)
        return real(engine, command, *rest)

    monkeypatch.setattr(Engine, "turn", slow)
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as served:
        running = asyncio.ensure_future(tiny.device(served, "lone", tmp_path).run())
        await asyncio.wait_for(entered.wait(), PATIENCE_S)
        for _ in range(1 + twice):
            stop()
            await asyncio.sleep(0.05)
        assert not served.task.done(), "the commit is still under way"
        gate.set()
        assert "stopped on request" in await ended(served)
        await leave(running)
    assert run_status(served.folder)["next_round"] == 2, "round 1 was committed all the same"
    monkeypatch.undo()
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        device = tiny.device(resumed, "lone", tmp_path, inline=False)
        device.epoch = 1
        await asyncio.wait_for(device.run(), PATIENCE_S)
        assert len((await resumed.summary())["rounds"]) == 2


async def test_a_stop_while_the_evaluator_is_waited_for_keeps_every_round(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    overrides = ["run.rounds=1", "coordinator.min_devices=1", "evaluation.deadline_s=2.0"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        evaluator = tiny.device(
            served, "eval", tmp_path, change=lambda join: replace(join, role=Role.EVALUATOR, profile=None)
        )
        async with evaluator.link.connect() as stream:
            await stream.send(await evaluator.join())
            assert isinstance(await asyncio.wait_for(stream.receive(), PATIENCE_S), Welcome)
            await together(tiny.device(served, "lone", tmp_path))
            assert isinstance(await asyncio.wait_for(stream.receive(), PATIENCE_S), EvaluatorTask)
            stop()
            assert await ended(served) == "stopped on request; every closed round is kept"
        await evaluator.link.close()
    status = run_status(served.folder)
    assert status["next_round"] is None and status["summary"] is None
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        summary = await resumed.summary()  # it was waited for again, and did not come
    assert [each["accepted"] for each in summary["rounds"]] == [1]
    assert summary["classes"].keys() == {"tiny"} and summary["global"]["final"] is None
    with pytest.raises(RunError, match="has finished; look at"):
        async with serving(tmp_path / "run", tiny.folder, resume=True):
            pass


async def test_three_rounds_without_a_quorum_pause_the_run_and_a_resume_goes_on(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as served:
        running = asyncio.ensure_future(tiny.device(served, "bad", tmp_path, fault=Fault.NAN).run())
        words = await ended(served)
        await leave(running)
    assert "3 rounds in a row missed quorum (round 3: 0 of 1 updates)" in words and "resume the run" in words
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        await together(tiny.device(resumed, "good", tmp_path))
        summary = await resumed.summary()
    assert [(each["round"], each["void"]) for each in summary["rounds"]] == [
        *((number, True) for number in (1, 2, 3)),
        *((number, False) for number in (4, 5)),
    ]
    assert summary["totals"]["void_rounds"] == 3 and summary["totals"]["rounds"] == 5


async def test_too_few_devices_pause_the_run_with_how_many_came(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.join_deadline_s=0.2"]) as served:
        running = asyncio.ensure_future(tiny.device(served, "lone", tmp_path).run())
        words = await ended(served)
        await leave(running)
    assert "round 1 needs 2 device(s) and 1 were here after 0.2 s; start more devices" in words


@pytest.mark.parametrize(
    ("owner", "method", "fault", "words"),
    [
        (Engine, "turn", OSError(28, "No space left on device"), "No space left on device; free space, then resume"),
        (RoundSum, "fold", ValueError("damaged"), "counting what lone sent for round 1 failed"),
    ],
)
async def test_a_fault_of_the_coordinator_ends_the_run_and_says_so(
    owner: type,
    method: str,
    fault: Exception,
    words: str,
    tiny: TinyModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise fault

    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as served:
        monkeypatch.setattr(owner, method, broken)
        running = asyncio.ensure_future(tiny.device(served, "lone", tmp_path).run())
        assert words in await ended(served)
        await leave(running)
    monkeypatch.undo()
    assert run_status(served.folder)["next_round"] == 1, "nothing of the failed round became durable"
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        device = tiny.device(resumed, "lone", tmp_path)
        await asyncio.wait_for(device.run(), PATIENCE_S)
        assert (await resumed.summary())["run"]["status"] == "finished"


async def test_an_unexpected_fault_ends_the_run_and_does_not_hang(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr(Engine, "_close", broken)
    with pytest.raises(AssertionError, match="a mistake of ours"):  # the harness saw the task's end
        async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as served:
            running = asyncio.ensure_future(tiny.device(served, "lone", tmp_path).run())
            with pytest.raises(ZeroDivisionError):
                await served.summary()
            await leave(running)


async def test_a_port_in_use_is_one_clear_error(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "one", tiny.folder) as served:
        listen = f'coordinator.listen="{served.address}"'
        with pytest.raises(RunError) as caught:
            async with serving(tmp_path / "two", tiny.folder, [listen]):
                pass
    assert f"cannot listen on {served.address}: the port is in use" in str(caught.value)
    assert "choose another with --listen HOST:PORT" in str(caught.value)
    async with serving(tmp_path / "two", tiny.folder, resume=True):
        pass  # nothing is left locked


async def test_a_run_resumes_with_its_own_base_model_only(tiny: TinyModel, wide: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        stop()
        await ended(served)
    with pytest.raises(RunError, match="was begun with another base model than"):
        async with serving(tmp_path / "run", wide.folder, resume=True):
            pass
    async with serving(tmp_path / "run", tiny.folder, resume=True):
        pass


async def test_a_run_that_is_being_served_cannot_be_resumed(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder):
        with pytest.raises(RunError, match="in use by a running coordinator"):
            async with serving(tmp_path / "run", tiny.folder, resume=True):
                pass


async def test_nothing_is_left_running_after_a_run(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    before = asyncio.all_tasks()
    threads = set(threading.enumerate())
    async with serving(tmp_path / "run", tiny.folder) as served:
        await together(*(tiny.device(served, name, tmp_path) for name in ("left", "right")))
        await served.summary()
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()
    assert [each for each in set(threading.enumerate()) - threads if each.name.startswith("engine")] == []
