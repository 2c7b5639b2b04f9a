"""The evaluator: measures the global adapter, makes class exports, trains the centralised reference."""

import asyncio
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floors
from fedcore.core.errors import FedcoreError, TransportError
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import (
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    ReferenceTask,
    UploadHeader,
    Welcome,
)
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout
from fedcore.transport.link import Link, Stream
from fedcore.transport.payload import fetch_all, payload
from fedcore.transport.retry import retrying

T = TypeVar("T")

MAX_REPORT = 500  # characters of an error that travel to the coordinator


@dataclass(slots=True, kw_only=True)
class Evaluator:
    """Carries out one task at a time; the coordinator repeats a task that a lost connection swallowed."""

    name: str
    link: Link
    blobs: BlobStore
    make_model_evaluator: Callable[[Welcome], ModelEvaluator]
    say: Callable[[str], None]
    _model_evaluator: ModelEvaluator | None = None
    _session: str = ""
    _stream: Stream | None = None
    _job: asyncio.Task[None] | None = None
    _task: EvaluatorTask | None = None  # the last one begun
    _result: EvaluatorResult | None = None  # of that one, once there is one
    _shift: BaseShiftCache = field(default_factory=BaseShiftCache)
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="torch"))

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """Begin a session."""
        self._session, self._stream = welcome.session, stream
        if self._model_evaluator is None:
            self._model_evaluator = self.make_model_evaluator(welcome)
            self.say(f"joined; labels {', '.join(welcome.labels)}")

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """Begin a task; one that is already under way or done is not begun again."""
        if not isinstance(message, EvaluatorTask):
            return
        self._stream = stream
        running = self._job is not None and not self._job.done()
        # Compared as a whole: a coordinator that was started again counts its tasks from 1 again.
        if message == self._task and running:
            return
        if message == self._task and self._result is not None:
            await stream.send(self._result)
            return
        if self._job is not None:
            self._job.cancel()
        self._task, self._result = message, None
        self._job = asyncio.create_task(self._carry_out(message))

    def session_lost(self) -> None:
        """Do nothing: a task goes on, and the coordinator sends it again."""

    async def close(self) -> None:
        """Stop what is being worked on."""
        if self._job is not None:
            self._job.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _carry_out(self, task: EvaluatorTask) -> None:
        while True:
            stream = self._stream
            try:
                if self._result is None:
                    self._result = await self._attempt(task)
                if stream is not None:
                    await stream.send(self._result)
                return
            except FedcoreError as error:
                self.say(f"{error}; the coordinator sends the task again")
                if self._stream is stream:
                    return
                # The connection is back, so the task has been sent again: this job answers it.

    async def _attempt(self, task: EvaluatorTask) -> EvaluatorResult:
        """Carry a task out; raises TransportError where the connection broke."""
        try:
            if isinstance(task.kind, EvaluateTask):
                return await self._evaluated(task.id, task.kind)
            return EvaluatorResult(id=task.id, outcome=await self._outcome(task.kind))
        except TransportError:
            raise
        except FedcoreError as error:
            message = str(error)
        except Exception as error:  # out of memory, a disk that is full: this figure is lost, the evaluator is not
            message = f"{type(error).__name__}: {error}"
        self.say(f"task failed: {message}")
        return EvaluatorResult(id=task.id, outcome=None, error=message[:MAX_REPORT])

    async def _evaluated(self, number: int, task: EvaluateTask) -> EvaluatorResult:
        models = self._require_model_evaluator()
        adapter = await self._download(task.adapter)
        keep_set = None if task.keep_set is None else await self._keep_set(task.keep_set)
        measure = partial(models.evaluate, offsets=task.offsets)
        metrics = await self._in_worker(measure, adapter, task.rows, task.lora_scale, keep_set)
        model = f", {task.device_class} at sparsity {task.sparsity:.0%}" if keep_set else ""
        headline = models.task.headline.of(metrics.figures)
        self.say(f"round {task.adapter.round}{model}: {headline} on {metrics.rows} rows")
        return EvaluatorResult(
            id=number,
            outcome=metrics,
            keep_set=task.keep_set.id if task.keep_set else "",
            floors=await self._floors(models, task.majority) if task.floors else None,
        )

    async def _floors(self, models: ModelEvaluator, majority: str) -> Floors | None:
        try:
            return await self._in_worker(models.floors, majority)
        except Exception as error:  # the figure that the floors stand beside is measured, and is not lost with them
            self.say(f"the floors cannot be found: {type(error).__name__}: {error}")
            return None

    async def _outcome(self, task: ReferenceTask | ExportTask) -> Metrics | ExportOutcome:
        models = self._require_model_evaluator()
        if isinstance(task, ReferenceTask):
            adapter = await self._download(task.start)
            return await self._in_worker(models.reference, adapter, task)
        return await self._export(models, task)

    async def _export(self, models: ModelEvaluator, task: ExportTask) -> ExportOutcome:
        adapter = await self._download(task.adapter)
        keep_set = await self._keep_set(task.keep_set)
        with tempfile.TemporaryDirectory(prefix="fedcore-export-") as folder:
            out = Path(folder) / task.device_class
            make = partial(models.export, offsets=task.offsets)
            made = await self._in_worker(make, adapter, keep_set, task.lora_scale, out)
            files = tuple([await self._send(path, path.relative_to(out).as_posix()) for path in _files(out)])
        headline = models.task.headline.of(made.metrics.figures)
        self.say(f"exported {task.device_class}: {headline}, {made.parameters} parameters")
        return replace(made, files=files)

    async def _keep_set(self, ref: BlobRef) -> KeepSet:
        await retrying(lambda: fetch_all(self.link, self.blobs, [ref]))
        return KeepSet.from_bytes(payload(ref, self.blobs))

    async def _send(self, path: Path, name: str) -> BlobRef:
        data = path.read_bytes()
        ref = BlobRef(id=self.blobs.put_bytes(data), size=len(data), name=name)
        await retrying(lambda: self.link.upload(memoryview(data), self._header(ref)))
        self.blobs.delete(ref.id)
        return ref

    def _header(self, ref: BlobRef) -> UploadHeader:
        return UploadHeader(blob=ref, offset=0, sender=self.name, session=self._session, round=0)

    async def _download(self, adapter: GlobalAdapter) -> dict[str, NDArray[np.float32]]:
        refs = [*adapter.rank_blocks, adapter.head, *self._shift.missing(adapter.base_shift)]
        await retrying(lambda: fetch_all(self.link, self.blobs, refs))
        self._shift.advance(adapter.base_shift, self.blobs)
        return read_handout(self.blobs, adapter.rank_blocks, adapter.head) | self._shift.tensors

    async def _in_worker(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, function, *arguments)

    def _require_model_evaluator(self) -> ModelEvaluator:
        if self._model_evaluator is None:
            raise TransportError("a task came before the welcome")
        return self._model_evaluator


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
