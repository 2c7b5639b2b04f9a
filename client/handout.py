"""The global adapter as a device receives it: rank blocks and head, brought, checked and joined."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from client.link import Link
from fedcore.codec.chain import decode
from fedcore.errors import BlobCorrupt, ProtocolError
from protos.values import BlobRef
from storage.blobs import BlobStore


def payload(ref: BlobRef, blobs: BlobStore) -> bytes:
    """Return a blob's bytes, out of its message or the store, verified either way.

    Raises BlobCorrupt where they do not hash to the name, ProtocolError where the blob is not here.
    """
    if not ref.inline:
        return blobs.read_bytes(ref.id)
    found = "sha256:" + hashlib.sha256(ref.inline).hexdigest()
    if found != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes inside the message are {found}; join again")
    return ref.inline


async def fetch_all(link: Link, blobs: BlobStore, refs: Sequence[BlobRef]) -> int:
    """Bring every blob that is not here; bytes received."""
    return sum([await link.fetch(ref, blobs) for ref in refs])


def read_handout(blobs: BlobStore, rank_blocks: Sequence[BlobRef], head: BlobRef) -> dict[str, NDArray[np.float32]]:
    """Join rank blocks (ascending) and head to one mapping in full coordinates.

    Raises ProtocolError where the blocks do not carry the same tensors.
    """
    parts = [decode(payload(ref, blobs)) for ref in rank_blocks]
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        raise ProtocolError("the adapter's rank blocks do not carry the same tensors; update coordinator and device")
    tensors = {
        name: np.concatenate([part[name] for part in parts], axis=0 if name.endswith(".A") else 1) for name in parts[0]
    }
    carried = decode(payload(head, blobs))
    return tensors | {name: np.array(carried[name]) for name in carried}
