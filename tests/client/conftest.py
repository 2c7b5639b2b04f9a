"""What stands around a device in tests: a stream that remembers, a link to nowhere, a trainer without torch's time."""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.client.device.agent import Agent
from fedcore.client.device.state import StateFolder
from fedcore.client.training.trainer import Cancelled, TrainingOutcome
from fedcore.client.training.training_state import TrainingState
from fedcore.core.codec.chain import encode
from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.outcome import TrainingMetrics
from fedcore.core.errors import FedcoreError, TransportError
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.rings import ring
from fedcore.nn.training.moments import Holding, Moment
from fedcore.nn.training.train import TrainResult
from fedcore.protos.values import BlobRef, UploadHeader, Upward, Welcome, WireAssignment
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import Received
from tests.tiny_run import MODEL, PATIENCE_S, small_update, spec_of, timeout

GEOMETRY = geometry_from_config(MODEL)
WELCOME = Welcome(session="s1", labels=("a", "b"), lease_s=3.0, keep_set="", targets=GEOMETRY.modules)


@dataclass
class FakeStream:
    """Remembers what was sent; `fault` is raised by every send while it is set."""

    sent: list[Upward] = field(default_factory=list)
    fault: FedcoreError | None = None

    async def send(self, value: Upward) -> None:
        """Take one value."""
        if self.fault is not None:
            raise self.fault
        self.sent.append(value)

    def of(self, kind: type[Any]) -> list[Any]:
        """Return what was sent of one kind."""
        return [each for each in self.sent if isinstance(each, kind)]


@dataclass
class FakeLink:
    """Serves `held` blobs and remembers uploads; `faults` are raised, one by one, before a transfer succeeds."""

    held: dict[str, bytes] = field(default_factory=dict)
    uploads: list[tuple[UploadHeader, bytes]] = field(default_factory=list)
    faults: list[FedcoreError] = field(default_factory=list)
    transfers: int = 0

    async def fetch(self, ref: BlobRef, store: BlobStore) -> int:
        """Bring one blob."""
        self._fail()
        if ref.inline or store.has(ref.id):
            return len(ref.inline)
        store.put_bytes(self.held[ref.id])
        return ref.size

    async def pack(self, ref: BlobRef, data: bytes) -> BlobRef:
        """Put a small blob inside its message."""
        return replace(ref, inline=data)

    async def upload(self, data: memoryview, header: UploadHeader) -> int:
        """Take one blob."""
        self._fail()
        self.uploads.append((header, bytes(data)))
        return len(data)

    def _fail(self) -> None:
        self.transfers += 1
        if self.faults:
            raise self.faults.pop(0)


@dataclass
class FakeTrainer:
    """Returns a small update at once, or once `gate` opens; a cancel ends the wait."""

    fault: Exception | None = None
    gate: threading.Event | None = None
    scale: float = 1.0
    runs: list[tuple[WireAssignment, TrainingState]] = field(default_factory=list)
    cancel: threading.Event = field(default_factory=threading.Event)
    prepared: int = 0
    entered: threading.Event = field(default_factory=threading.Event)

    def prepare(self) -> None:
        """Load nothing."""
        self.prepared += 1

    def run(
        self,
        assignment: WireAssignment,
        received: Received,
        state: TrainingState,
        on_step: Callable[[int], None],
    ) -> TrainingOutcome:
        """Carry out an assignment without a model."""
        self.runs.append((assignment, state))
        self.entered.set()
        if self.cancel.is_set():
            raise Cancelled("training stopped at step 0: the assignment was taken back")
        end_s = time.monotonic() + PATIENCE_S
        while self.gate is not None and not self.gate.wait(0.002):
            if self.cancel.is_set():
                raise Cancelled("training stopped at step 1: the assignment was taken back")
            assert time.monotonic() < end_s
        if self.fault is not None:
            raise self.fault
        on_step(1)
        update = small_update(GEOMETRY, assignment, received.keep_set, "device")
        moments = {
            "head.bias": Moment(first=np.ones(2, np.float32), second=np.ones(2, np.float32), step=len(self.runs))
        }
        return TrainingOutcome(
            increment={name: value * np.float32(self.scale) for name, value in update.items()},
            result=TrainResult(
                metrics=TrainingMetrics(
                    loss_before=0.7,
                    loss_after=0.4,
                    train_loss=0.5,
                    peak_memory_mb=2.0,
                    adapter_importance=0.1,
                ),
                moments=moments,
                scores=None,
            ),
            prune_s=0.1,
            train_s=0.2,
            state=TrainingState(
                basis=assignment.basis,
                holding=Holding(keep_set=received.keep_set, rank=assignment.arm.rank),
                moments=moments,
            ),
            geometry=GEOMETRY,
        )


@dataclass
class FakeTime:
    """A clock that stands still, and timers that ring when it is moved on."""

    now_s: float = 100.0
    timers: list["FakeTimer"] = field(default_factory=list)

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> "FakeTimer":
        """Call back once the clock was moved on by `delay_s`."""
        timer = FakeTimer(self.now_s + delay_s, callback)
        self.timers.append(timer)
        return timer

    def pass_by(self, seconds: float) -> None:
        """Move the clock on, and ring what is due."""
        self.now_s += seconds
        due = [timer for timer in self.timers if timer.at_s <= self.now_s]
        self.timers = [timer for timer in self.timers if timer.at_s > self.now_s]
        for timer in due:
            timer.ring()


@dataclass
class FakeTimer:
    """One call to come."""

    at_s: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        """Never call."""
        self.cancelled = True

    def ring(self) -> None:
        """Call, unless it was cancelled."""
        if not self.cancelled:
            self.callback()


@dataclass
class Bench:
    """One agent and everything around it."""

    agent: Agent
    link: FakeLink
    stream: FakeStream
    trainer: FakeTrainer
    state: StateFolder
    said: list[str]
    trainers: list[Welcome]  # what every trainer was made for

    async def settled(self) -> None:
        """Wait for the job under way, and for what it reports."""
        async with timeout(PATIENCE_S):
            while self.agent.machine.job is not None or self.agent._sends:  # noqa: ASYNC110, as short as it gets
                await asyncio.sleep(0.001)


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    """Make an agent on this test's state folder; a second call is the device's next process."""

    def make(time: FakeTime | None = None, **trainer: Any) -> Bench:
        link, stream, fake = FakeLink(), FakeStream(), FakeTrainer(**trainer)
        said: list[str] = []
        trainers: list[Welcome] = []

        def make_trainer(welcome: Welcome) -> FakeTrainer:
            trainers.append(welcome)
            return fake

        state = StateFolder.open(tmp_path / "state")
        agent = Agent(
            name="device",
            link=link,  # type: ignore[arg-type]
            state=state,
            make_trainer=make_trainer,  # type: ignore[arg-type]
            num_examples=4,
            memory_mb=0.0,
            say=said.append,
            retry_s=0.001,
            **({} if time is None else {"clock": time, "call_later": time.call_later}),  # type: ignore[arg-type]
        )
        return Bench(agent=agent, link=link, stream=stream, trainer=fake, state=state, said=said, trainers=trainers)

    return make


def make_assignment(
    round_index: int = 1,
    *,
    rank: int = 1,
    heads: int = 2,
    codec: str = "identity",
    inline: bool = True,
    rings: bool = False,
) -> WireAssignment:
    """Return an assignment whose blobs travel inside it, or by name; its one ring, if any, is what is kept."""
    keep_set = KeepSet(heads=(tuple(range(heads)),), channels=(tuple(range(16)),))
    spec = spec_of(GEOMETRY, rank)
    tensors = initial_adapter(spec, np.random.default_rng(0))
    head = {name: tensors[name] for name, _ in spec.head}
    factors = {name: value for name, value in tensors.items() if name not in head}
    if rings:
        factors = ring(spec, tensors, None, keep_set)
    return WireAssignment(
        round=round_index,
        arm=Arm(sparsity=0.0, rank=rank),
        keep_set=inside(keep_set.to_bytes(), inline),
        rank_blocks=(replace(inside(encode(factors, "identity"), inline), name="0-1/0" if rings else "0-1"),),
        rings=(inside(keep_set.to_bits(GEOMETRY), inline),) if rings else (),
        head=inside(encode(head, "identity"), inline),
        local_steps=3,
        weight=4,
        seed=round_index,
        deadline_s=10.0,
        score=False,
        training=TrainingSpec(
            batch_size=2,
            learning_rate=1e-3,
            weight_decay=0.0,
            lora_scale=2.0,
            importance="taylor",
            keep_optimizer=True,
            codec=codec,
        ),
        max_upload_bytes=1 << 20,
        basis="persistent",
    )


def inside(data: bytes, inline: bool = True) -> BlobRef:
    """Return a reference to `data`, with the bytes inside or without."""
    return BlobRef(id=blob_name(data), size=len(data), inline=data if inline else b"")


def broken() -> TransportError:
    """Return the fault of a broken connection."""
    return TransportError("127.0.0.1:1: UNAVAILABLE: the connection broke")
