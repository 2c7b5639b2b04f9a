"""A round's assignments for the devices below an edge, with every small blob once instead of once per device."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fedcore.protos.tier_values import RoundShare, TierSpec
from fedcore.protos.values import BlobRef, WireAssignment

MOST_ASSIGNMENTS = 500  # in one message, which may have 4 MiB
MOST_BYTES = 2 << 20  # of blobs and their references in one message
REF_BYTES = 256  # about, of a blob's reference: names, sizes and delta


def round_shares(
    assignments: Mapping[str, WireAssignment], *, spec: TierSpec, deadline_s: float
) -> Iterator[RoundShare]:
    """Yield shares with `assignments` (of one round, by device) and every small blob that they name once."""
    sent: set[str] = set()
    named = sorted(assignments.items())
    while named:
        batch, named = _batch(named, sent)
        blobs = {ref.id: ref for _, assignment in batch for ref in assignment.refs if ref.inline and ref.id not in sent}
        sent |= set(blobs)
        yield RoundShare(
            round=batch[0][1].round,
            deadline_s=deadline_s,
            spec=spec,
            assignments=tuple((device, _without_bytes(assignment)) for device, assignment in batch),
            blobs=tuple(blobs.values()),
        )


def with_small_blobs(assignment: WireAssignment, small: Mapping[str, bytes]) -> WireAssignment:
    """Return `assignment` with the bytes of its small blobs inside again, as a device expects it."""

    def fill(ref: BlobRef) -> BlobRef:
        return replace(ref, inline=small.get(ref.id, b""))

    return assignment.with_refs(fill)


def shift_refs_of(assignment: WireAssignment) -> tuple[BlobRef, ...]:
    """Return the blobs of the base shift; a device fetches those that it lacks, and an edge does so on demand."""
    return () if assignment.base_shift is None else assignment.base_shift.refs


def _without_bytes(assignment: WireAssignment) -> WireAssignment:
    return with_small_blobs(assignment, {})


def _batch(
    named: Sequence[tuple[str, WireAssignment]], sent: set[str]
) -> tuple[list[tuple[str, WireAssignment]], list[tuple[str, WireAssignment]]]:
    """Return the first assignments that fit into one message, at least one, and the rest."""
    fresh: set[str] = set()
    total = 0
    for count, (_, assignment) in enumerate(named):
        new = {ref.id: len(ref.inline) for ref in assignment.refs if ref.id not in sent | fresh}
        size = sum(new.values()) + REF_BYTES * (len(assignment.refs) + len(new))
        if count and (count == MOST_ASSIGNMENTS or total + size > MOST_BYTES):
            return list(named[:count]), list(named[count:])
        fresh |= set(new)
        total += size
    return list(named), []
