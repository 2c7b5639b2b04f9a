"""From an assignment to the update that answers it: download, train, encode. Torch runs on one worker thread."""

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from fedcore.client.device.downloads import Downloads
from fedcore.client.device.energy import EnergyMeter
from fedcore.client.training.device_report import device_report
from fedcore.client.training.encoding import encoded_scores, encoded_update
from fedcore.client.training.residuals import Residuals
from fedcore.client.training.trainer import Trainer, TrainingOutcome
from fedcore.client.training.training_state import TrainingState
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, UpdateSubmission, WireAssignment
from fedcore.storage.blobs.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalUpdate:
    """An update as it is spooled, and what its acceptance commits."""

    submission: UpdateSubmission
    keep_set: KeepSet
    training: TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMaker:
    """Makes updates of one device. `memory_mb` 0 is no limit; training above it is reported, not stopped."""

    downloads: Downloads
    residuals: Residuals
    worker: ThreadPoolExecutor
    num_examples: int
    memory_mb: float
    say: Callable[[str], None]
    clock: Callable[[], float] = time.perf_counter
    energy: EnergyMeter = field(default_factory=EnergyMeter)

    async def make(
        self, assignment: WireAssignment, trainer: Trainer, state: TrainingState, on_step: Callable[[int], None]
    ) -> LocalUpdate:
        """Return the update, its blobs in the store; training starts from `state`.

        `on_step` is called on the worker thread. Raises TransportError where the link stays broken, FedcoreError where
        training diverges.
        """
        loop = asyncio.get_running_loop()
        begin = self.clock()
        self.energy.begin()
        received, bytes_down = await self.downloads.receive(assignment)
        downloaded = self.clock()
        outcome = await loop.run_in_executor(self.worker, trainer.run, assignment, received, state, on_step)
        self._check_memory(assignment.round, outcome)
        encoding = self.clock()
        update, scores = await loop.run_in_executor(self.worker, self._encode, assignment, outcome, received.keep_set)
        report = device_report(
            assignment,
            outcome,
            num_examples=self.num_examples,
            download_s=downloaded - begin,
            encode_s=self.clock() - encoding,
            bytes_down=bytes_down,
        )
        spent = self.energy.end()
        report = replace(report, energy_j=spent.energy_j, temperature_c=spent.temperature_c)
        submission = UpdateSubmission(
            round=assignment.round, update=update, scores=scores, keep_set=assignment.keep_set.id, report=report
        )
        return LocalUpdate(submission=submission, keep_set=received.keep_set, training=outcome.state)

    def _check_memory(self, number: int, outcome: TrainingOutcome) -> None:
        peak_mb = outcome.result.metrics.peak_memory_mb
        if self.memory_mb and peak_mb > self.memory_mb:
            self.say(
                f"round {number}: training held {peak_mb:.0f} MiB, more than the class's limit of {self.memory_mb:.0f}"
            )

    def _encode(
        self, assignment: WireAssignment, outcome: TrainingOutcome, keep_set: KeepSet
    ) -> tuple[BlobRef, BlobRef | None]:
        pieces = encoded_update(
            assignment, outcome.increment, keep_set=keep_set, geometry=outcome.geometry, residuals=self.residuals
        )
        update, scores = _put(self.downloads.blobs, pieces, "update"), outcome.result.scores
        return update, None if scores is None else _put(self.downloads.blobs, encoded_scores(scores), "scores")


def _put(blobs: BlobStore, chunks: Iterable[bytes | memoryview], name: str) -> BlobRef:
    blob_id = blobs.put_chunks(chunks)
    return BlobRef(id=blob_id, size=blobs.size(blob_id), name=name)
