"""From an assignment to an encoded update: what is measured on the way, and what its acceptance would commit."""

import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.client.device.downloads import Downloads
from fedcore.client.device.energy import EnergyMeter
from fedcore.client.device.update_maker import UpdateMaker
from fedcore.client.training.residuals import Residuals
from fedcore.client.training.training_state import TrainingState
from fedcore.core.codec.chain import decode
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import DataError, TransportError
from fedcore.core.model.keep_set import KeepSet
from fedcore.storage.blobs.store import BlobStore
from tests.client.conftest import GEOMETRY, FakeLink, FakeTrainer, broken, make_assignment
from tests.tiny_run import small_update


@dataclass
class Ticking:
    """A clock that moves on by a second whenever it is read."""

    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@dataclass
class Bench:
    """A maker and what stands around it."""

    root: Path
    memory_mb: float = 0.0
    link: FakeLink = field(default_factory=FakeLink)
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    said: list[str] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="torch"))

    def __post_init__(self) -> None:
        self.blobs = BlobStore(self.root / "blobs")
        self.maker = UpdateMaker(
            downloads=Downloads(
                link=self.link,  # type: ignore[arg-type]
                blobs=self.blobs,
                say=self.said.append,
                retry_s=0.001,
            ),
            residuals=Residuals(self.root),
            worker=self.worker,
            num_examples=4,
            memory_mb=self.memory_mb,
            say=self.said.append,
            clock=Ticking(),
        )

    async def make(self, asked: Any, state: TrainingState | None = None) -> Any:
        return await self.maker.make(asked, self.trainer, state or TrainingState(), self.steps.append)  # type: ignore[arg-type]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.worker.shutdown(wait=False, cancel_futures=True)


async def test_the_update_is_the_increment_under_the_runs_codec(bench: Bench) -> None:
    asked = make_assignment(2, codec="bf16+zstd")
    made = await bench.make(asked)
    kept = KeepSet.from_bytes(asked.keep_set.inline)
    decoded = decode(bench.blobs.read_bytes(made.submission.update.id))
    for name, value in small_update(GEOMETRY, asked, kept, "device").items():
        np.testing.assert_allclose(decoded[name], value, rtol=1e-2)
    assert made.submission.update.size == bench.blobs.size(made.submission.update.id)
    assert (made.submission.round, made.submission.keep_set) == (2, asked.keep_set.id)
    assert made.submission.scores is None and made.submission.update.name == "update"


async def test_what_acceptance_commits_is_what_training_left(bench: Bench) -> None:
    asked, state = make_assignment(heads=1), TrainingState(basis="persistent")
    made = await bench.make(asked, state)
    assert bench.trainer.runs == [(asked, state)] and bench.steps == [1]
    assert made.keep_set == KeepSet.from_bytes(asked.keep_set.inline)
    assert made.training.holding is not None and made.training.holding.keep_set == made.keep_set


async def test_every_phase_is_timed(bench: Bench) -> None:
    report = (await bench.make(make_assignment())).submission.report
    assert report.phase_s == {"download": 1.0, "prune": 0.1, "train": 0.2, "encode": 1.0}
    assert (report.num_examples, report.steps, report.bytes_up) == (4, 3, 0)
    metrics = report.metrics
    assert (metrics.loss_before, metrics.loss_after, metrics.train_loss) == (0.7, 0.4, 0.5)


async def test_energy_is_reported_where_it_is_known(bench: Bench) -> None:
    assert (await bench.make(make_assignment())).submission.report.energy_j is None
    joules = iter([5.0, 7.5])
    meter = EnergyMeter(counters=(lambda: next(joules),), temperatures=(lambda: 40.0,))
    bench.maker = replace(bench.maker, energy=meter)
    report = (await bench.make(make_assignment())).submission.report
    assert (report.energy_j, report.temperature_c) == (2.5, 40.0)


@pytest.mark.parametrize(("limit_mb", "said"), [(0.0, False), (2.0, False), (1.5, True)])
async def test_training_above_the_memory_limit_is_said(limit_mb: float, said: bool, tmp_path: Path) -> None:
    bench = Bench(tmp_path, memory_mb=limit_mb)
    await bench.make(make_assignment(3))
    text = "round 3: training held 2 MiB, more than the class's limit of 2"
    assert bench.said == ([text] if said else []), "the fake trainer holds 2 MiB"
    bench.worker.shutdown(wait=False)


async def test_scores_are_a_blob_of_their_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = GroupScores(heads=(np.full(2, 0.5, np.float32),), channels=(np.ones(16, np.float32),))
    run = bench.trainer.run

    def scoring(*arguments: Any) -> Any:
        outcome = run(*arguments)
        return replace(outcome, result=replace(outcome.result, scores=scores))

    monkeypatch.setattr(bench.trainer, "run", scoring)
    made = await bench.make(make_assignment())
    assert made.submission.scores is not None and made.submission.scores.name == "scores"
    decoded = decode(bench.blobs.read_bytes(made.submission.scores.id))
    np.testing.assert_array_equal(decoded["layers.0.heads"], scores.heads[0])


async def test_torch_has_one_thread_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    run = bench.trainer.run
    monkeypatch.setattr(
        bench.trainer, "run", lambda *given: threads.append(threading.current_thread().name) or run(*given)
    )
    for number in (1, 2):
        await bench.make(make_assignment(number))
    assert threads == ["torch_0", "torch_0"]


async def test_error_feedback_is_prepared_before_the_update_can_be_sent(bench: Bench) -> None:
    await bench.make(make_assignment(codec="ef+topk:0.1"))
    residuals = Residuals(bench.root)
    assert residuals.committed() is None
    residuals.settle(1)
    assert residuals.committed() is not None, "once round 1 counts"


async def test_a_link_that_stays_broken_and_training_that_fails_end_it(bench: Bench) -> None:
    bench.link.faults = [broken() for _ in range(5)]
    with pytest.raises(TransportError):
        await bench.make(make_assignment())
    assert bench.trainer.runs == []
    bench.trainer.fault = DataError("training diverged")
    with pytest.raises(DataError, match="training diverged"):
        await bench.make(make_assignment())
