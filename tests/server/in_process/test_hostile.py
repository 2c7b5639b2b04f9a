"""Members that do what they must not: what they touch stays whole, and the run goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.data.figures import Metrics
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    Goodbye,
    Heartbeat,
    Progress,
    Role,
    UploadHeader,
    Welcome,
    WireAssignment,
)
from fedcore.server.members.service import FleetService
from fedcore.server.rounds.coordinator import MAX_REPORT
from fedcore.storage.blobs.name import blob_name
from fedcore.transport.link import Stream
from tests.fake_device import FakeDevice
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving

Together = Callable[..., Any]
METRICS = Metrics(figures={"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5}, rows=8)


def evaluator(tiny: TinyModel, served: Served, place: Path) -> FakeDevice:
    return tiny.device(served, "eval", place, change=lambda join: replace(join, role=Role.EVALUATOR, profile=None))


async def receive(stream: Stream) -> Any:
    return await asyncio.wait_for(stream.receive(), PATIENCE_S)


async def play_evaluator(device: FakeDevice, export_name: str) -> None:
    """Answer every task; exports carry one file of the given name."""
    async with device.link.connect() as stream:
        await stream.send(await device.join())
        welcome = await receive(stream)
        assert isinstance(welcome, Welcome)
        while isinstance(message := await receive(stream), EvaluatorTask):
            outcome: Metrics | ExportOutcome = METRICS
            if isinstance(message.kind, ExportTask):
                data = b"an export"
                ref = BlobRef(id=blob_name(data), size=len(data), name=export_name)
                header = UploadHeader(blob=ref, offset=0, sender="eval", session=welcome.session, round=0)
                await device.link.upload(memoryview(data), header)
                outcome = ExportOutcome(
                    metrics=METRICS,
                    files=(ref,),
                    parameters=1,
                    dense_parameters=2,
                    latency_s=1.0,
                    dense_latency_s=1.0,
                    dense_size_bytes=8,
                )
            await stream.send(EvaluatorResult(id=message.id, outcome=outcome))
        assert isinstance(message, Goodbye)
    await device.link.close()


@pytest.mark.parametrize(("name", "placed"), [("model.safetensors", True), ("../../evil", False)])
async def test_an_export_that_leaves_its_folder_is_reported_and_the_run_finishes(
    name: str, placed: bool, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1", "run.rounds=1"]) as served:
        watching = asyncio.ensure_future(play_evaluator(evaluator(tiny, served, tmp_path), name))
        await served.until("joined")
        await together(tiny.device(served, "lone", tmp_path))
        summary = await served.summary()
        await asyncio.wait_for(watching, PATIENCE_S)
    failed = [(each["task"], each["message"]) for each in served.events("task_failed")]
    assert (failed == []) is placed
    assert (summary["classes"]["tiny"]["test"] is not None) is placed
    assert summary["global"]["final"]["accuracy"] == 0.75
    assert not list(tmp_path.rglob("evil"))
    if not placed:
        assert failed == [("export tiny", "export file '../../evil': expected a name inside the export folder")]


async def test_a_device_cannot_answer_for_the_evaluator(tiny: TinyModel, tmp_path: Path) -> None:
    overrides = ["coordinator.min_devices=1", "evaluation.rows_per_round=5"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        judge, device = evaluator(tiny, served, tmp_path), tiny.device(served, "forger", tmp_path)
        async with judge.link.connect() as seat, device.link.connect() as stream:
            await seat.send(await judge.join())
            assert isinstance(await receive(seat), Welcome)
            task = await receive(seat)
            assert isinstance(task, EvaluatorTask) and isinstance(task.kind, EvaluateTask)
            await stream.send(await device.join())
            assert isinstance(await receive(stream), Welcome)
            await stream.send(EvaluatorResult(id=task.id, outcome=METRICS))
            await stream.send(AssignmentFailure(round=1, message="é" * 5000))  # comes after the forged result
            (failed,) = await served.until("failed")
            assert served.events("evaluated") == [] and len(failed["message"]) == MAX_REPORT
            await seat.send(EvaluatorResult(id=task.id, outcome=METRICS))
            assert [each["task"] for each in await served.until("evaluated")] == ["round 0"]
        for each in (judge, device):
            await each.link.close()


async def test_an_evaluators_word_on_a_round_is_no_update(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as served:
        judge = evaluator(tiny, served, tmp_path)
        async with judge.link.connect() as seat:
            await seat.send(await judge.join())
            assert isinstance(await receive(seat), Welcome)
            for message in (Progress(round=1, step=1, steps=2), Heartbeat(), AssignmentFailure(round=9, message="?")):
                await seat.send(message)
            await served.until("failed")
        assert not served.task.done() and served.events("round_closed") == []
        await judge.link.close()


async def test_a_device_that_reports_failure_is_no_burden(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"]) as served:
        device = tiny.device(served, "unlucky", tmp_path)

        async def unlucky() -> None:
            async with device.link.connect() as stream:
                await stream.send(await device.join())
                while not isinstance(message := await receive(stream), Goodbye):
                    if isinstance(message, WireAssignment):
                        failure = AssignmentFailure(round=message.round, message="RuntimeError: out of memory")
                        await stream.send(failure)
            await device.link.close()

        await asyncio.gather(unlucky(), together(tiny.device(served, "good", tmp_path)))
        summary = await served.summary()
    assert [(each["device"], each["message"]) for each in served.events("failed")] == [
        ("unlucky", "RuntimeError: out of memory")
    ]
    assert {row["device"]: row["status"] for row in summary["rounds"][0]["results"]} == {
        "good": "accepted",
        "unlucky": "rejected",
    }


class Stuck:
    """A call's context whose writes never end, as a peer with a full window makes them."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def write(self, message: Any) -> None:
        await asyncio.Event().wait()


async def test_a_peer_that_never_reads_is_cut_off_and_nobody_waits_for_it(
    tiny: TinyModel, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = FleetService.Connect
    calls = iter([True])

    async def first_one_stuck(service: FleetService, requests: Any, context: Any) -> None:
        await connect(service, requests, Stuck(context) if next(calls, False) else context)

    monkeypatch.setattr(FleetService, "Connect", first_one_stuck)
    overrides = ["coordinator.lease_s=0.4", "run.rounds=1", "coordinator.min_devices=1"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        deaf = tiny.device(served, "deaf", tmp_path)
        async with deaf.link.connect() as stream:
            await stream.send(await deaf.join())
            await served.until("left")
        await deaf.link.close()
        await together(tiny.device(served, "good", tmp_path))
        summary = await served.summary()
    assert summary["rounds"][-1]["accepted"] == 1
