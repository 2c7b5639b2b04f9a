"""An assignment as it was decided, and as it travels: the wire's one names its blobs and says what a device needs."""

from dataclasses import dataclass

from fedcore.core.contract.assignment import Assignment
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BaseShift, BlobRef, WireAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentBlobs:
    """What `WireAssignment` says of blobs; devices of equal keep-set, rank and codec share one value."""

    keep_set: BlobRef
    rings: tuple[BlobRef, ...]
    inside: BlobRef | None
    rank_blocks: tuple[BlobRef, ...]
    head: BlobRef
    base_shift: BaseShift | None
    max_upload_bytes: int


def to_wire(
    assignment: Assignment,
    blobs: AssignmentBlobs,
    *,
    basis: str,
    label_counts: tuple[int, ...] = (),
    counted_round: int = 0,
) -> WireAssignment:
    """Return what a device is sent for `assignment`; the fields beside it are those of `WireAssignment`."""
    return WireAssignment(
        round=assignment.round,
        arm=assignment.arm,
        keep_set=blobs.keep_set,
        rings=blobs.rings,
        inside=blobs.inside,
        rank_blocks=blobs.rank_blocks,
        head=blobs.head,
        local_steps=assignment.local_steps,
        weight=assignment.weight,
        seed=assignment.seed,
        deadline_s=assignment.deadline_s,
        score=assignment.score,
        training=assignment.training,
        max_upload_bytes=blobs.max_upload_bytes,
        basis=basis,
        label_counts=label_counts,
        counted_round=counted_round,
        base_shift=blobs.base_shift,
    )


def from_wire(value: WireAssignment, *, device: str, keep_set: KeepSet) -> Assignment:
    """Return the assignment that `value` is of `device`; `keep_set` is what its blobs say it keeps."""
    return Assignment(
        round=value.round,
        device=device,
        arm=value.arm,
        keep_set=keep_set,
        local_steps=value.local_steps,
        weight=value.weight,
        seed=value.seed,
        deadline_s=value.deadline_s,
        score=value.score,
        training=value.training,
    )
