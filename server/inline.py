"""Small blobs travel inside the message that names them: a round of tiny payloads then needs no other call."""

import hashlib
from dataclasses import replace

from fedcore.errors import BlobCorrupt, UpdateRejected
from protos.values import BlobRef
from protos.wire import INLINE_BYTES
from storage.blobs import BlobStore


def inlined(ref: BlobRef, blobs: BlobStore) -> BlobRef:
    """Return `ref` with its bytes where they are few."""
    return replace(ref, inline=blobs.path(ref.id).read_bytes()) if ref.size <= INLINE_BYTES else ref


def inline_payload(ref: BlobRef, limit: int) -> memoryview | None:
    """Return the bytes that came inside a message, verified; None where the blob was uploaded by itself.

    Raises UpdateRejected where there are more than `limit`, BlobCorrupt where they do not hash to the name.
    """
    if not ref.inline:
        return None
    if len(ref.inline) > min(limit, INLINE_BYTES):
        raise UpdateRejected(f"{len(ref.inline)} bytes came inside a message, expected at most {limit}")
    found = "sha256:" + hashlib.sha256(ref.inline).hexdigest()
    if found != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes inside the message are {found}; send them again")
    return memoryview(ref.inline)
