"""One assignment at a Flower node, from the arrays it came with to the arrays that answer it."""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from flwr.app import Array, ArrayRecord

from fedcore.client.flower.device import device_and_precision, rows_of, warm_trainer
from fedcore.client.flower.settings import NodeSettings
from fedcore.client.flower.state import NodeState
from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.client.training.device_report import device_report
from fedcore.client.training.encoding import encoded_scores, encoded_update
from fedcore.client.training.trainer import ModelSource
from fedcore.core.errors import BlobCorrupt
from fedcore.core.tasks.options import TaskOptions
from fedcore.core.tasks.table import task_named
from fedcore.protos.records import CONTAINER, encoding
from fedcore.protos.values import BlobRef, RunDescription, UpdateSubmission, Welcome, WireAssignment
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.model_source import model_folder
from fedcore.transport.download import read_received

Answer = tuple[UpdateSubmission, ArrayRecord]


def train_assignment(
    assignment: WireAssignment,
    arrays: ArrayRecord,
    source: ModelSource,
    settings: NodeSettings,
    state: NodeState,
    clock: Callable[[], float] = time.perf_counter,
) -> Answer:
    """Train as the assignment says; return the submission and its payloads.

    Raises BlobCorrupt where an array is not what its name says, FedcoreError where training diverges.
    """
    training = state.settle(assignment.counted_round)
    begin = clock()
    with tempfile.TemporaryDirectory(prefix="fedcore-") as scratch:
        blobs = _stored(arrays, Path(scratch))
        received, shift = read_received(assignment, blobs), BaseShiftCache()
        shift.advance(assignment.base_shift, blobs)
        received = received.with_shift(shift.tensors)
        downloaded = clock()
        outcome = warm_trainer(source, settings).run(assignment, received, training, on_step=lambda step: None)
        encoding_s = clock()
        payloads = _Payloads()
        pieces = encoded_update(
            assignment,
            outcome.increment,
            keep_set=received.keep_set,
            geometry=outcome.geometry,
            residuals=state.folder.residuals,
        )
        update = payloads.add(pieces, "update", assignment)
        scores = outcome.result.scores
        scores_ref = None if scores is None else payloads.add(encoded_scores(scores), "scores", None)
    state.keep(outcome.state, assignment.round)
    report = device_report(
        assignment,
        outcome,
        num_examples=len(rows_of(settings.data)),
        download_s=downloaded - begin,
        encode_s=clock() - encoding_s,
        bytes_down=sum(len(array.data) for array in arrays.values()),
    )
    report = replace(report, bytes_up=payloads.size)
    submission = UpdateSubmission(
        round=assignment.round, update=update, scores=scores_ref, keep_set=assignment.keep_set.id, report=report
    )
    return submission, payloads.record


def model_source_of(welcome: Welcome, description: RunDescription, settings: NodeSettings) -> ModelSource:
    """Return which model the run trains, and how it is read."""
    device, precision = device_and_precision(settings, description)
    return ModelSource(
        folder=model_folder(settings.model),
        labels=welcome.labels,
        head=description.head,
        dtype=description.dtype,
        max_length=description.max_length,
        targets=welcome.targets,
        task=task_named(description.task),
        options=TaskOptions.read(description.task_options),
        device=device,
        precision=precision,
    )


class _Payloads:
    """Arrays by blob name."""

    def __init__(self) -> None:
        self.record = ArrayRecord()
        self.size = 0

    def add(self, chunks: Iterable[bytes | memoryview], name: str, assignment: WireAssignment | None) -> BlobRef:
        """Add a payload, marked as encoded with the codec of `assignment`, or as not encoded for None."""
        data = b"".join(chunks)
        ref = BlobRef(id=blob_name(data), size=len(data), name=name)
        stype = CONTAINER if assignment is None else encoding(assignment.training.codec)
        self.record[ref.id] = Array(dtype="uint8", shape=(len(data),), stype=stype, data=data)
        self.size += len(data)
        return ref


def _stored(arrays: ArrayRecord, scratch: Path) -> BlobStore:
    blobs = BlobStore(scratch)
    for name, array in arrays.items():
        blob_id = blobs.put_bytes(array.data)
        if blob_id != name:
            raise BlobCorrupt(f"expected {name}, the array that came is {blob_id}; have the round sent again")
    return blobs
