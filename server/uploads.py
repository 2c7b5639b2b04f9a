"""From an uploaded blob to a verified update: nothing is counted before all of it was checked."""

import mmap
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec
from fedcore.assignment import Assignment
from fedcore.codec.chain import decode, encoded_bytes_bound
from fedcore.errors import UpdateRejected
from fedcore.keep_set import KeepSet
from fedcore.outcome import GroupScores
from fedcore.update import Update, verify_update
from protos.values import BlobRef, UpdateSubmission
from server.inline import inline_payload
from server.open_round import Arrived
from storage.blobs import BlobStore

SCORE_CODEC = "identity"


def score_shapes(keep_set: KeepSet) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the importance vectors a holder of `keep_set` uploads."""
    shapes: dict[str, tuple[int, ...]] = {}
    shapes |= {f"layers.{layer}.heads": (len(kept),) for layer, kept in enumerate(keep_set.heads)}
    return shapes | {f"layers.{layer}.channels": (len(kept),) for layer, kept in enumerate(keep_set.channels)}


def upload_bound(assignment: Assignment, spec: AdapterSpec) -> int:
    """Most bytes any one blob answering this assignment may have."""
    update = spec.shapes(rank=assignment.arm.rank, keep_set=assignment.keep_set)
    scores = score_shapes(assignment.keep_set)
    return max(encoded_bytes_bound(update, assignment.training.codec), encoded_bytes_bound(scores, SCORE_CODEC))


def verify(submission: UpdateSubmission, assignment: Assignment, spec: AdapterSpec, blobs: BlobStore) -> Arrived:
    """Return the update behind a submission; raises UpdateRejected, naming device and round, where it does not fit."""
    who = f"update of {assignment.device} for round {assignment.round}"
    if submission.keep_set != assignment.keep_set.blob_id:
        raise UpdateRejected(f"{who}: trained under keep-set {submission.keep_set[:20]}, not the assigned one")
    update = Update(
        device=assignment.device,
        round=assignment.round,
        weight=assignment.weight,
        rank=assignment.arm.rank,
        keep_set=assignment.keep_set,
        tensors=decode(
            _payload(blobs, submission.update, assignment, spec),
            shapes=spec.shapes(rank=assignment.arm.rank, keep_set=assignment.keep_set),
        ),
    )
    verify_update(update, spec)
    scores = None
    if assignment.score:
        if submission.scores is None:
            raise UpdateRejected(f"{who}: group importances were asked for and are missing")
        payload = _payload(blobs, submission.scores, assignment, spec)
        scores = _scores(decode(payload, shapes=score_shapes(assignment.keep_set)), assignment.keep_set, who)
    return Arrived(submission=submission, update=update, scores=scores)


def _payload(blobs: BlobStore, ref: BlobRef, assignment: Assignment, spec: AdapterSpec) -> memoryview:
    inline = inline_payload(ref, upload_bound(assignment, spec)) if ref.inline else None
    return _mapped(blobs, ref.id) if inline is None else inline


def _mapped(blobs: BlobStore, blob_id: str) -> memoryview:
    path = blobs.path(blob_id)
    if path.stat().st_size == 0:
        raise UpdateRejected(f"blob {blob_id} is empty; send the encoded tensors")
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _scores(tensors: Mapping[str, NDArray[np.float32]], keep_set: KeepSet, who: str) -> GroupScores:
    shapes = score_shapes(keep_set)
    if set(tensors) != set(shapes):
        raise UpdateRejected(f"{who}: importances of other layers than asked for")
    for name, shape in shapes.items():
        value = tensors[name]
        if value.shape != shape or not np.isfinite(value).all() or (value < 0).any():
            raise UpdateRejected(f"{who}: importances {name} must be {shape} finite numbers of 0 or more")
    layers = range(len(keep_set.heads))
    return GroupScores(
        heads=tuple(np.array(tensors[f"layers.{layer}.heads"]) for layer in layers),
        channels=tuple(np.array(tensors[f"layers.{layer}.channels"]) for layer in layers),
    )
