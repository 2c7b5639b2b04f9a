"""The global adapter as a device receives it: rank blocks and head, brought, checked and joined."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.codec.chain import decode
from fedcore.errors import ProtocolError
from fedcore.keep_set import KeepSet
from fedcore.rings import joined
from protos.block_name import BlockName
from protos.values import BlobRef, Work
from storage.blobs import BlobStore
from transport.payload import payload, payload_view

Arrays = dict[str, NDArray[np.float32]]


def read_handout(
    blobs: BlobStore, rank_blocks: Sequence[BlobRef], head: BlobRef, rings: Sequence[BlobRef] = ()
) -> Arrays:
    """Join rank blocks (ascending, ring by ring) and head to one mapping.

    In full coordinates without `rings`, else in those of the last ring's keep-set. Raises ProtocolError where the
    blocks of a ring do not carry the same tensors, or rings are not what their keep-sets say.
    """
    if rings:
        keep_sets = [KeepSet.from_bits(payload(ref, blobs)) for ref in rings]
        try:
            tensors = joined([_ranks_joined(blobs, own) for own in _by_ring(rank_blocks, len(rings))], keep_sets)
        except ValueError as cause:
            raise ProtocolError(f"the adapter's rings are not what their keep-sets say: {cause}") from None
    else:
        tensors = _ranks_joined(blobs, rank_blocks)
    carried = decode(payload_view(head, blobs))
    return tensors | {name: np.array(carried[name]) for name in carried}


def read_keep_set(work: Work, blobs: BlobStore) -> KeepSet:
    """Return what `work` keeps; raises ProtocolError where its last ring is another keep-set than it names."""
    if not work.rings:
        return KeepSet.from_bytes(payload(work.keep_set, blobs))
    keep_set = KeepSet.from_bits(payload(work.kept, blobs))
    if keep_set.blob_id != work.keep_set.id:
        raise ProtocolError(f"round {work.round}: the last ring is not the keep-set; update coordinator and device")
    return keep_set


def _by_ring(rank_blocks: Sequence[BlobRef], count: int) -> list[list[BlobRef]]:
    own: list[list[BlobRef]] = [[] for _ in range(count)]
    for ref in rank_blocks:
        number = BlockName.parse(ref.name).ring
        if number is None or number >= count:
            raise ProtocolError(f"rank block {ref.name!r} lies in none of {count} rings; update coordinator and device")
        own[number].append(ref)
    return own


def _ranks_joined(blobs: BlobStore, rank_blocks: Sequence[BlobRef]) -> Arrays:
    parts = [decode(payload_view(ref, blobs)) for ref in rank_blocks]
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        raise ProtocolError("the adapter's rank blocks do not carry the same tensors; update coordinator and device")
    return {
        name: np.concatenate([part[name] for part in parts], axis=0 if name.endswith(".A") else 1) for name in parts[0]
    }
