"""Small blobs travel inside the message that names them: a round of tiny payloads then needs no other call."""

import hashlib

from fedcore.errors import BlobCorrupt, UpdateRejected
from protos.values import BlobRef
from protos.wire import INLINE_BYTES
from storage.blobs import BlobStore


def put_blob(blobs: BlobStore, data: bytes, name: str) -> BlobRef:
    """Store `data` and return its reference, with the bytes inside where they are few."""
    inline = data if len(data) <= INLINE_BYTES else b""
    return BlobRef(id=blobs.put_bytes(data), size=len(data), name=name, inline=inline)


def inline_payload(ref: BlobRef, limit: int) -> memoryview:
    """Return the bytes that came inside a message, verified.

    Raises UpdateRejected where there are more than `limit`, BlobCorrupt where they do not hash to the name.
    """
    if len(ref.inline) > min(limit, INLINE_BYTES):
        raise UpdateRejected(f"{len(ref.inline)} bytes came inside a message, expected at most {limit}")
    found = "sha256:" + hashlib.sha256(ref.inline).hexdigest()
    if found != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes inside the message are {found}; send them again")
    return memoryview(ref.inline)
