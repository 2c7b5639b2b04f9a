"""The evaluator: every task answered once, whatever the connection does; a fault of a task is told, not swallowed."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.client.evaluation.evaluator import Evaluator
from fedcore.core.codec.chain import encode
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floor, Floors
from fedcore.core.errors import DataError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.task import Task
from fedcore.protos.values import (
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    Join,
    ReferenceTask,
    Role,
)
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.transport.parent_connection import ParentConnection
from tests.client.conftest import WELCOME, FakeLink, FakeStream, broken, inside
from tests.fake_device import FakeDevice, open_link
from tests.tiny_run import PATIENCE_S, serving, write_model

Adapter = Mapping[str, NDArray[np.float32]]
FLOOR = Floor(figures={"accuracy": 0.5, "macro_f1": 0.25}, rows=8)
METRICS = Metrics(figures={"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5}, rows=8)


@dataclass
class FakeModelEvaluator:
    """Answers at once, or once `gate` opens."""

    task: Task = CLASSIFICATION
    fault: Exception | None = None
    gate: threading.Event | None = None
    calls: list[Any] = field(default_factory=list)
    entered: threading.Event = field(default_factory=threading.Event)

    def evaluate(
        self, adapter: Adapter, rows: int, scale: float, keep_set: KeepSet | None = None, *, offsets: bool = False
    ) -> Metrics:
        """Measure nothing."""
        self._call(rows if keep_set is None else (rows, keep_set))
        return METRICS

    def floors(self, majority: str) -> Floors:
        """Return floors without a row of their own, or fail for the label "broken"."""
        if majority == "broken":
            raise MemoryError("too many words")
        return Floors(majority_label=majority or "none", majority=FLOOR)

    def reference(self, adapter: Adapter, task: ReferenceTask) -> Metrics:
        """Train nothing."""
        self._call(task)
        return METRICS

    def export(
        self, adapter: Adapter, keep_set: KeepSet, scale: float, out: Path, *, offsets: bool = False
    ) -> ExportOutcome:
        """Write an export whose tokenizer is the base model's, byte by byte."""
        self._call(keep_set)
        out.mkdir(parents=True)
        (out / "model.safetensors").write_bytes(f"weights of {out.name}".encode())
        (out / "tokenizer.json").write_text("{}")
        return ExportOutcome(
            metrics=METRICS,
            files=(),
            parameters=10,
            dense_parameters=20,
            latency_s=0.5,
            dense_latency_s=1.0,
            dense_size_bytes=80,
        )

    def _call(self, what: Any) -> None:
        self.calls.append(what)
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(PATIENCE_S)
        if self.fault is not None:
            raise self.fault


@dataclass
class Bench:
    evaluator: Evaluator
    link: FakeLink
    stream: FakeStream
    models: FakeModelEvaluator

    async def push(self, task: EvaluatorTask, stream: FakeStream | None = None) -> None:
        await self.evaluator.message(task, stream or self.stream)  # type: ignore[arg-type]

    async def settled(self) -> None:
        assert self.evaluator._job is not None
        await asyncio.wait_for(asyncio.shield(self.evaluator._job), PATIENCE_S)


async def bench_of(root: Path, **models: Any) -> Bench:
    link, stream, fake = FakeLink(), FakeStream(), FakeModelEvaluator(**models)
    evaluator = Evaluator(
        name="eval",
        link=link,  # type: ignore[arg-type]
        blobs=BlobStore(root / "blobs"),
        make_model_evaluator=lambda _: fake,  # type: ignore[arg-type,return-value]
        say=lambda _: None,
    )
    await evaluator.welcome(WELCOME, stream)  # type: ignore[arg-type]
    return Bench(evaluator=evaluator, link=link, stream=stream, models=fake)


def evaluate(number: int = 1, rows: int = 5) -> EvaluatorTask:
    adapter = GlobalAdapter(
        round=number, rank_blocks=(inside(encode({}, "identity")),), head=inside(encode({}, "identity"))
    )
    return EvaluatorTask(id=number, kind=EvaluateTask(adapter=adapter, rows=rows, lora_scale=2.0))


async def test_a_task_is_answered_once_and_its_answer_repeated(tmp_path: Path) -> None:
    bench = await bench_of(tmp_path)
    await bench.push(evaluate())
    await bench.settled()
    await bench.push(evaluate())
    assert bench.stream.sent == [EvaluatorResult(id=1, outcome=METRICS)] * 2 and bench.models.calls == [5]
    await bench.evaluator.close()


async def test_a_pruned_model_is_measured_and_named(tmp_path: Path) -> None:
    bench, keep_set, plain = await bench_of(tmp_path), KeepSet(heads=((0,),), channels=((0,),)), evaluate()
    assert isinstance(plain.kind, EvaluateTask)
    ref = inside(keep_set.to_bytes())
    await bench.push(replace(plain, kind=replace(plain.kind, keep_set=ref, device_class="nx", sparsity=0.5)))
    await bench.settled()
    assert bench.models.calls == [(5, keep_set)]
    assert bench.stream.sent == [EvaluatorResult(id=1, outcome=METRICS, keep_set=ref.id)]
    await bench.evaluator.close()


async def test_floors_come_with_the_figures_and_do_not_take_them_along(tmp_path: Path) -> None:
    bench, plain = await bench_of(tmp_path), evaluate()
    assert isinstance(plain.kind, EvaluateTask)
    for number, majority in enumerate(("neg", "broken"), start=1):
        kind = replace(plain.kind, floors=True, majority=majority)
        await bench.push(replace(plain, id=number, kind=kind))
        await bench.settled()
    floors = Floors(majority_label="neg", majority=FLOOR)
    assert bench.stream.sent == [
        EvaluatorResult(id=1, outcome=METRICS, floors=floors),
        EvaluatorResult(id=2, outcome=METRICS),
    ]
    await bench.evaluator.close()


async def test_a_task_pushed_again_on_a_new_stream_is_answered_there_and_not_begun_again(tmp_path: Path) -> None:
    gate = threading.Event()
    bench = await bench_of(tmp_path, gate=gate)
    await bench.push(evaluate())
    assert await asyncio.to_thread(bench.models.entered.wait, PATIENCE_S)
    bench.stream.fault = broken()
    newer = FakeStream()
    await bench.evaluator.welcome(WELCOME, newer)  # type: ignore[arg-type]
    await bench.push(evaluate(), newer)
    gate.set()
    await bench.settled()
    assert newer.sent == [EvaluatorResult(id=1, outcome=METRICS)] and bench.models.calls == [5]
    await bench.evaluator.close()


async def test_another_task_takes_the_place_of_the_one_under_way(tmp_path: Path) -> None:
    """A coordinator sends one task at a time: it has given up the older one."""
    gate = threading.Event()
    bench = await bench_of(tmp_path, gate=gate)
    await bench.push(evaluate(1))
    assert await asyncio.to_thread(bench.models.entered.wait, PATIENCE_S)
    await bench.push(evaluate(2, rows=7))
    gate.set()
    await bench.settled()
    assert bench.stream.sent == [EvaluatorResult(id=2, outcome=METRICS)] and bench.models.calls == [5, 7]
    await bench.evaluator.close()


async def test_a_coordinator_that_counts_from_one_again_gets_no_old_answer(tmp_path: Path) -> None:
    bench = await bench_of(tmp_path)
    await bench.push(evaluate(1, rows=5))
    await bench.settled()
    await bench.push(evaluate(1, rows=0))
    await bench.settled()
    assert bench.models.calls == [5, 0]
    await bench.evaluator.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (DataError("the evaluator has no rows"), "the evaluator has no rows"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
async def test_a_fault_of_a_task_is_told_and_the_evaluator_lives_on(
    fault: Exception, message: str, tmp_path: Path
) -> None:
    bench = await bench_of(tmp_path, fault=fault)
    await bench.push(evaluate(1))
    await bench.settled()
    assert bench.stream.sent == [EvaluatorResult(id=1, outcome=None, error=message)]
    bench.models.fault = None
    await bench.push(evaluate(2))
    await bench.settled()
    assert bench.stream.sent[1] == EvaluatorResult(id=2, outcome=METRICS)
    await bench.evaluator.close()


async def test_an_answer_that_cannot_be_sent_waits_for_the_reconnect(tmp_path: Path) -> None:
    bench = await bench_of(tmp_path)
    bench.stream.fault = broken()
    await bench.push(evaluate())
    await bench.settled()
    newer = FakeStream()
    await bench.evaluator.welcome(WELCOME, newer)  # type: ignore[arg-type]
    await bench.push(evaluate(), newer)
    await asyncio.sleep(0)
    assert newer.sent == [EvaluatorResult(id=1, outcome=METRICS)] and bench.models.calls == [5]
    await bench.evaluator.close()


async def test_an_export_is_uploaded_file_by_file(tmp_path: Path) -> None:
    bench = await bench_of(tmp_path)
    keep_set = KeepSet(heads=((0,),), channels=((0,),))
    kind = evaluate().kind
    assert isinstance(kind, EvaluateTask)
    task = ExportTask(device_class="tiny", adapter=kind.adapter, keep_set=inside(keep_set.to_bytes()), lora_scale=2.0)
    await bench.push(EvaluatorTask(id=4, kind=task))
    await bench.settled()
    (result,) = bench.stream.sent
    assert isinstance(result, EvaluatorResult) and isinstance(result.outcome, ExportOutcome)
    assert [ref.name for ref in result.outcome.files] == ["model.safetensors", "tokenizer.json"]
    assert [header.session for header, _ in bench.link.uploads] == ["s1", "s1"]
    assert {header.blob.id: data for header, data in bench.link.uploads}.keys() == {
        ref.id for ref in result.outcome.files
    }
    assert bench.models.calls == [keep_set]
    await bench.evaluator.close()


async def test_a_whole_run_is_measured_and_exported(tmp_path: Path) -> None:
    geometry = write_model(tmp_path / "model")
    mark = fingerprint(tmp_path / "model")
    overrides = ["evaluation.rows_per_round=5", "coordinator.min_devices=2"]
    async with serving(tmp_path / "run", tmp_path / "model", overrides) as served:
        bench = await bench_of(tmp_path)
        link = bench.evaluator.link = open_link(served.address)

        async def make_join() -> Join:
            return Join(
                protocol_min=PROTOCOL,
                protocol_max=PROTOCOL,
                role=Role.EVALUATOR,
                name="eval",
                device_uuid="eval",
                epoch=1,
                profile=None,
                fingerprint=mark,
                max_length=8,
                labels=("a",),
            )

        connection = ParentConnection(
            link=link,
            make_join=make_join,
            on_welcome=bench.evaluator.welcome,
            on_message=bench.evaluator.message,
            say=lambda _: None,
        )
        watching = asyncio.ensure_future(connection.run())
        await served.until("joined")
        devices = [
            FakeDevice(
                name=name, target=served.address, mark=mark, geometry=geometry, place=tmp_path, device_class=name
            )
            for name in ("agx", "nx")
        ]
        await asyncio.wait_for(asyncio.gather(*(device.run() for device in devices)), PATIENCE_S)
        summary = await served.summary()
        assert await asyncio.wait_for(watching, PATIENCE_S) == "the coordinator stops"
        await bench.evaluator.close()
        await link.close()
    figures = {"accuracy": 0.75, "auc": None, "macro_f1": 0.7, "loss": 0.5, "rows": 8, "answers": []}
    assert summary["global"] == {"untrained": figures, "final": figures, "reference": None}
    assert [each["accuracy"] for each in summary["rounds"]] == [0.75, 0.75]
    for name in ("agx", "nx"):
        assert summary["classes"][name]["latency_ratio"] == 0.5 and summary["classes"][name]["test"] == figures
        assert summary["classes"][name]["size_bytes"] == len(f"weights of {name}")
        assert (served.folder.exports / name / "model.safetensors").read_text() == f"weights of {name}"
        assert (served.folder.exports / name / "tokenizer.json").read_text() == "{}"
    evaluated = [event["task"] for event in served.events("evaluated")]
    assert evaluated == ["round 0", "round 1", "round 2", "final", "export agx", "export nx"]
    assert not served.events("task_failed")
    kept = {path.stat().st_size for path in (served.folder.blobs / "sha256").glob("??/*")}
    assert len(b"weights of agx") not in kept, "exports are copies, their blobs go"
