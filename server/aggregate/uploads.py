"""Verify an uploaded update: it does not count before all of it is checked."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.chain import decode, encoded_bytes_bound
from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import INFLUENCES, DeviceReport, GroupScores, TrainingMetrics
from fedcore.core.contract.update import Update, verify_update
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, UpdateSubmission
from fedcore.server.aggregate.mapped_tensors import MappedTensors, map_file
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import inline_payload

SCORE_CODEC = "identity"
_NO_GROUPS = np.empty(0, dtype=np.float32)  # of a removed layer
VerifiedUpload = tuple[Update, GroupScores | None, UpdateSubmission]
_CACHED_BOUNDS = 64  # more than the different bounds of one round
_METRICS = tuple(field.name for field in fields(TrainingMetrics) if field.name != "trial_losses")  # all numbers
_metrics_of = attrgetter(*_METRICS)


def score_shapes(keep_set: KeepSet, *, influences: bool = False) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the importance vectors that a device with `keep_set` uploads.

    `influences`: also those of whole layers.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    shapes |= {f"layers.{layer}.heads": (len(keep_set.heads[layer]),) for layer in keep_set.layers}
    shapes |= {f"layers.{layer}.channels": (len(keep_set.channels[layer]),) for layer in keep_set.layers}
    return shapes | ({INFLUENCES: (len(keep_set.layers),)} if influences else {})


def scores_wanted(assignment: Assignment) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of the importance vectors that an assignment asks for."""
    return score_shapes(assignment.keep_set, influences=assignment.training.score_layers)


def upload_bound(assignment: Assignment, spec: AdapterSpec) -> int:
    """Return the most bytes that one blob of an update for this assignment may have."""
    update = _sent_shapes(assignment, spec)
    return max(_bound(tuple(update.items()), assignment.training.codec), score_bound(assignment))


def _sent_shapes(assignment: Assignment, spec: AdapterSpec) -> Mapping[str, tuple[int, ...]]:
    """Names and shapes of the tensors in an update for this assignment."""
    shapes = spec.shapes(rank=assignment.arm.rank, keep_set=assignment.keep_set)
    return assignment.training.trains.of(shapes)


def score_bound(assignment: Assignment) -> int:
    """Return the most bytes that the group importances for this assignment may have."""
    return _bound(tuple(scores_wanted(assignment).items()), SCORE_CODEC)


@lru_cache(_CACHED_BOUNDS)
def _bound(shapes: tuple[tuple[str, tuple[int, ...]], ...], codec: str) -> int:
    return encoded_bytes_bound(dict(shapes), codec)


def verify_upload(submission: UpdateSubmission, assignment: Assignment, terms: RoundTerms) -> VerifiedUpload:
    """Return a submission's update, its scores, and the submission without scores that the assignment does not ask for.

    Raises UpdateRejected, naming device and round, if the update does not fit.
    """
    subject = f"update of {assignment.device} for round {assignment.round}"
    try:
        return _verified(submission, assignment, terms, subject)
    except (UpdateRejected, ProtocolError) as error:
        raise UpdateRejected(str(error) if str(error).startswith(subject) else f"{subject}: {error}") from None


def _verified(submission: UpdateSubmission, assignment: Assignment, terms: RoundTerms, subject: str) -> VerifiedUpload:
    if submission.keep_set != assignment.keep_set.blob_id:
        raise UpdateRejected(f"{subject}: trained under keep-set {submission.keep_set[:20]}, not the assigned one")
    check_report(submission.report, subject)
    data = _payload(submission.update, assignment, terms)
    shapes = _sent_shapes(assignment, terms.spec)
    update = Update(
        device=assignment.device,
        round=assignment.round,
        weight=assignment.weight,
        rank=assignment.arm.rank,
        keep_set=assignment.keep_set,
        tensors=MappedTensors(decode(data, shapes=shapes), data),
        trains=assignment.training.trains,
    )
    update = verify_update(update, terms.spec)
    scores = None
    if assignment.score:
        if submission.scores is None:
            raise UpdateRejected(f"{subject}: group importances were asked for and are missing")
        scores = read_scores(_payload(submission.scores, assignment, terms), assignment, subject)
    elif submission.scores is not None:
        submission = replace(submission, scores=None)  # not requested: never read, and not deleted at close
    return update, scores, submission


def check_report(report: DeviceReport, subject: str) -> None:
    """Raise UpdateRejected for a negative or non-finite figure: figures decide rewards and go into the summary."""
    trial = report.metrics.trial_losses
    spent = () if report.energy_j is None else (report.energy_j,)
    values = (*_metrics_of(report.metrics), *report.phase_s.values(), *trial, *spent)
    if min(values) >= 0 and sum(values) < math.inf:
        return  # the fast path: any NaN or infinity would show in the sum
    names = (*_METRICS, *(f"{phase}_s" for phase in report.phase_s), *("a trial's loss" for _ in trial), "energy_j")
    for name, value in zip(names, values, strict=False):  # the last one may be unknown
        if not 0 <= value < math.inf:
            raise UpdateRejected(f"{subject}: reported {name} {value}, expected a finite number of 0 or more")


def read_scores(data: memoryview, assignment: Assignment, subject: str) -> GroupScores:
    """Return a device's group importances; raises UpdateRejected or ProtocolError if they do not fit."""
    shapes = scores_wanted(assignment)
    return _scores(decode(data, shapes=shapes), shapes, len(assignment.keep_set.heads), subject)


def blob_payload(blobs: BlobStore, ref: BlobRef, limit: int) -> memoryview:
    """Return a blob's bytes, from inside its message or mapped from the store."""
    return inline_payload(ref, limit) if ref.inline else _mapped(blobs, ref.id)


def _payload(ref: BlobRef, assignment: Assignment, terms: RoundTerms) -> memoryview:
    return blob_payload(terms.blobs, ref, upload_bound(assignment, terms.spec))


def _mapped(blobs: BlobStore, blob_id: str) -> memoryview:
    path = blobs.path(blob_id)
    if path.stat().st_size == 0:
        raise UpdateRejected(f"blob {blob_id} is empty; send the encoded tensors")
    return map_file(path)


def _scores(
    tensors: Mapping[str, NDArray[np.float32]], shapes: Mapping[str, tuple[int, ...]], layers: int, subject: str
) -> GroupScores:
    if set(tensors) != set(shapes):
        raise UpdateRejected(f"{subject}: importances of other layers than asked for")
    for name, shape in shapes.items():
        value = tensors[name]
        if value.shape != shape or not np.isfinite(value).all() or (value < 0).any():
            raise UpdateRejected(f"{subject}: importances {name} must be {shape} finite numbers of 0 or more")
    heads, channels = (
        tuple(np.array(tensors.get(f"layers.{layer}.{kind}", _NO_GROUPS)) for layer in range(layers))
        for kind in ("heads", "channels")
    )
    influences = np.array(tensors[INFLUENCES]) if INFLUENCES in shapes else None
    return GroupScores(heads=heads, channels=channels, layers=influences)
