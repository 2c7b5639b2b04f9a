"""Read the global adapter that a device has downloaded: check its rank blocks and head, and join them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.chain import decode
from fedcore.core.errors import ProtocolError
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.rings import joined
from fedcore.protos.block_name import BlockName
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import payload, payload_view

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The keep-set and the adapter that a device has downloaded: at least the ranks of its arm, and the head."""

    keep_set: KeepSet
    tensors: Tensors  # with a base shift, also what the device adds to the base weights
    within: KeepSet | None = None  # the factors are in its coordinates; it contains `keep_set`. None: full coordinates

    def with_shift(self, shift: Tensors) -> "Received":
        """Return a copy that also carries `shift`, which the device adds to the base weights."""
        return replace(self, tensors={**self.tensors, **shift})


def read_received(assignment: WireAssignment, blobs: BlobStore) -> Received:
    """Return what `assignment` hands out, but for the base shift; its blobs are here.

    Raises ProtocolError where the blocks of a ring carry different tensors, where a ring does not match its keep-set,
    and where the rings do not nest around the device's keep-set.
    """
    keep_set = read_keep_set(assignment, blobs)
    if not assignment.rings:
        return Received(keep_set=keep_set, tensors=read_handout(blobs, assignment.rank_blocks, assignment.head))
    rings = [KeepSet.from_bits(payload(ref, blobs)) for ref in assignment.rings]
    for inner, outer in itertools.pairwise(rings):
        _check_inside(inner, outer, assignment.round)
    _check_inside(keep_set, rings[-1], assignment.round)
    parts = [_ranks_joined(blobs, own) for own in _by_ring(assignment.rank_blocks, len(rings))]
    try:
        factors = joined(parts, rings)
    except ValueError as cause:
        raise ProtocolError(f"the adapter's rings are not what their keep-sets say: {cause}") from None
    return Received(keep_set=keep_set, tensors=factors | _head(blobs, assignment.head), within=rings[-1])


def read_keep_set(assignment: WireAssignment, blobs: BlobStore) -> KeepSet:
    """Return what `assignment` keeps; raises ProtocolError where that is another keep-set than it names."""
    if not assignment.rings:
        return KeepSet.from_bytes(payload(assignment.keep_set, blobs))
    keep_set = KeepSet.from_bits(payload(assignment.kept, blobs))
    if keep_set.blob_id != assignment.keep_set.id:
        raise ProtocolError(
            f"round {assignment.round}: another keep-set came than was named; update coordinator and device"
        )
    return keep_set


def read_handout(blobs: BlobStore, rank_blocks: Sequence[BlobRef], head: BlobRef) -> Arrays:
    """Join rank blocks (ascending, in full coordinates) and head into one mapping.

    Raises ProtocolError where the blocks carry different tensors.
    """
    return _ranks_joined(blobs, rank_blocks) | _head(blobs, head)


def _check_inside(inner: KeepSet, outer: KeepSet, number: int) -> None:
    if not inner.is_subset_of(outer):
        raise ProtocolError(f"round {number}: the adapter's rings do not nest; update coordinator and device")


def _by_ring(rank_blocks: Sequence[BlobRef], count: int) -> list[list[BlobRef]]:
    rings: list[list[BlobRef]] = [[] for _ in range(count)]
    for ref in rank_blocks:
        number = BlockName.parse(ref.name).ring
        if number is None or number >= count:
            raise ProtocolError(f"rank block {ref.name!r} lies in none of {count} rings; update coordinator and device")
        rings[number].append(ref)
    return rings


def _ranks_joined(blobs: BlobStore, rank_blocks: Sequence[BlobRef]) -> Arrays:
    parts = [decode(payload_view(ref, blobs)) for ref in rank_blocks]
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        raise ProtocolError("the adapter's rank blocks do not carry the same tensors; update coordinator and device")
    return {
        name: np.concatenate([part[name] for part in parts], axis=0 if name.endswith(".A") else 1) for name in parts[0]
    }


def _head(blobs: BlobStore, head: BlobRef) -> Arrays:
    tensors = decode(payload_view(head, blobs))
    return {name: np.array(tensors[name]) for name in tensors}
