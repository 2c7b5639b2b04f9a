"""A run without torch: a base model of a few hundred parameters, its configuration, updates, a served coordinator."""

import asyncio
import json
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.outcome import DeviceReport, TrainingMetrics
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import WireAssignment
from fedcore.server.observe.metrics import RunMetrics
from fedcore.server.run.journal import read_events
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.serve import ServeOptions, serve
from fedcore.storage.pki.certificates import TlsMaterial

if sys.version_info >= (3, 11):
    from asyncio import timeout as timeout
else:
    from async_timeout import timeout as timeout

PHASE_S = 2.0**-10  # of every phase a fake device reports: little enough to fit into any round
PATIENCE_S = 20.0  # no await of a test takes longer
LABELS = ("a", "b")
MODEL = {
    "model_type": "bert",
    "num_hidden_layers": 1,
    "hidden_size": 12,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 8,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
}
WIDE = MODEL | {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512}
_PATHS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}


def write_model(folder: Path, model: Json = MODEL, seed: int = 0) -> Geometry:
    """Write a base model that no device ever loads."""
    folder.mkdir(parents=True)
    geometry = geometry_from_config(model)
    (folder / "config.json").write_text(json.dumps(model))
    (folder / "tokenizer.json").write_text("{}")
    rng = np.random.default_rng(seed)
    tensors = {
        f"encoder.layer.{layer}.{path}.weight": rng.standard_normal(geometry.shape(name)).astype(np.float32)
        for name, path in _PATHS.items()
        for layer in range(geometry.layers)
    }
    save_file(tensors, folder / "model.safetensors")
    return geometry


def tiny_config(model: Path, overrides: Sequence[str] = ()) -> Config:
    """Return a configuration of two rounds for two devices, with times in fractions of a second."""
    text = f"""
[run]
name = "tiny"
rounds = 2
[model]
path = "{model}"
max_length = 8
[data]
labels = ["a", "b"]
[strategy]
name = "fedavg-lora"
ranks = [1]
target_sparsity = 0.0
[training]
codec = "identity"
[coordinator]
min_devices = 2
lease_s = 3.0
round_deadline_s = 10.0
join_deadline_s = 10.0
[evaluation]
rows_per_round = 0
"""
    return parse_config(text, overrides)


def spec_of(geometry: Geometry, rank: int, labels: int = 2) -> AdapterSpec:
    """Return the adapter of a mean-pooled head over `labels` labels."""
    head = (("head.bias", (labels,)), ("head.weight", (labels, geometry.hidden)))
    return AdapterSpec(geometry=geometry, rank=rank, targets=geometry.modules, head=head)


def drawn_adapter(spec: AdapterSpec, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return an adapter of normal values."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in spec.shapes().items()}


def small_update(
    geometry: Geometry, assignment: WireAssignment, keep_set: KeepSet, device: str, labels: int = 2
) -> dict[str, NDArray[np.float32]]:
    """Return increments that fit `assignment`, different for every device and round."""
    value = np.float32(1e-6) * (1 + zlib.crc32(f"{device}/{assignment.round}".encode()) % 1000)
    shapes = spec_of(geometry, assignment.arm.rank, labels).shapes(keep_set=keep_set)
    return {
        name: np.full(shape, value, dtype=np.float32) for name, shape in assignment.training.trains.of(shapes).items()
    }


def score_vectors(keep_set: KeepSet, device: str) -> dict[str, NDArray[np.float32]]:
    """Return importances of every kept group, each layer's of norm 1."""
    rng = np.random.default_rng(zlib.crc32(device.encode()))
    rows = {f"layers.{layer}.heads": len(kept) for layer, kept in enumerate(keep_set.heads)}
    rows |= {f"layers.{layer}.channels": len(kept) for layer, kept in enumerate(keep_set.channels)}
    drawn = {name: rng.uniform(0.1, 1.0, size).astype(np.float32) for name, size in rows.items()}
    return {name: value / np.float32(np.linalg.norm(value)) for name, value in drawn.items()}


def device_report(**changes: float) -> DeviceReport:
    """Return what an idle device reports."""
    metrics = TrainingMetrics(
        loss_before=1.0, loss_after=0.9, train_loss=0.95, peak_memory_mb=1.0, adapter_importance=0.1
    )
    return DeviceReport(
        metrics=replace(metrics, **changes),
        phase_s=dict.fromkeys(("download", "prune", "train", "encode", "upload"), PHASE_S),
        num_examples=4,
        steps=10,
        bytes_down=100,
        bytes_up=50,
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait for what another task brings about."""
    async with timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@dataclass
class Served:
    """A coordinator being served; `task` ends with its summary or its error."""

    folder: RunFolder
    config: Config
    task: "asyncio.Task[Json]"
    address: str = ""
    said: list[str] = field(default_factory=list)
    stopped: bool = False

    def stop(self) -> None:
        """Cancel the task, once: a second cancellation would end its tidying up."""
        if not self.stopped:
            self.stopped = self.task.cancel()

    def events(self, kind: str = "") -> list[Json]:
        """Events so far, of one kind or all."""
        return [each for each in read_events(self.folder.events) if kind in ("", each["event"])]

    def told(self, kind: str, device: str) -> list[Json]:
        """Events of one kind about one device."""
        return [each for each in self.events(kind) if each.get("device") == device]

    async def until(self, kind: str, count: int = 1) -> list[Json]:
        """Wait for `count` events of a kind."""
        async with timeout(PATIENCE_S):
            while len(found := self.events(kind)) < count:
                if self.task.done():
                    self.task.result()
                    raise AssertionError(f"the run ended with {len(found)} events {kind!r}, expected {count}")
                await asyncio.sleep(0.01)
        return found

    async def summary(self) -> Json:
        """Wait for the end of the run."""
        return await asyncio.wait_for(asyncio.shield(self.task), PATIENCE_S)

    def ledger(self) -> Ledger:
        """The ledger, for looking at."""
        return Ledger.open(self.folder.ledger, read_only=True)


def begin(
    folder: RunFolder,
    config: Config,
    model: Path,
    *,
    listening: asyncio.Event,
    tls: TlsMaterial | None = None,
    resume: bool = False,
    metrics: RunMetrics | None = None,
    comes_back: bool = False,
    certs: Path | None = None,
    enrol: str = "",
    await_evaluator: bool = False,
) -> Served:
    """Start serving a new run, or one to resume, as a task of this event loop."""
    run = Run.resume(folder, model) if resume else Run.create(folder, config, model)
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        listening.set()  # its first words are where it listens

    options = ServeOptions(
        tls=tls,
        reference=False,
        say=say,
        metrics=metrics,
        comes_back=comes_back,
        certs=certs,
        enrol=enrol,
        await_evaluator=await_evaluator,
    )
    task = asyncio.ensure_future(serve(run, options))
    return Served(folder=folder, config=run.config, task=task, said=said)


@asynccontextmanager
async def serving(
    root: Path,
    model: Path,
    overrides: Sequence[str] = (),
    *,
    tls: TlsMaterial | None = None,
    resume: bool = False,
    metrics: RunMetrics | None = None,
    comes_back: bool = False,
    certs: Path | None = None,
    enrol: str = "",
    await_evaluator: bool = False,
) -> AsyncIterator[Served]:
    """Serve a run until the block ends; wait until it listens. A run that is still going on is cancelled then."""
    if not resume:
        root.mkdir(parents=True, exist_ok=True)
    listening = asyncio.Event()
    config = tiny_config(model, overrides)
    served = begin(
        RunFolder(root),
        config,
        model,
        tls=tls,
        resume=resume,
        listening=listening,
        metrics=metrics,
        comes_back=comes_back,
        certs=certs,
        enrol=enrol,
        await_evaluator=await_evaluator,
    )
    try:
        waiting = asyncio.ensure_future(listening.wait())
        await asyncio.wait([served.task, waiting], timeout=PATIENCE_S, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if served.task.done():
            served.task.result()
        served.address = json.loads(served.folder.endpoint.read_text())["address"]
        yield served
    finally:
        served.stop()
        ended, _ = await asyncio.wait([served.task], timeout=PATIENCE_S)
        assert ended, "the coordinator does not stop"
        fault = None if served.task.cancelled() else served.task.exception()
        assert fault is None or isinstance(fault, RunError), repr(fault)
