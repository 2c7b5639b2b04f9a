"""Payloads by reference: a small one travels inside the message that names it, a large one as a blob."""

import asyncio
import hashlib
from collections.abc import Sequence

from fedcore.core.codec.delta import apply_delta
from fedcore.core.errors import BlobCorrupt, ProtocolError, UpdateRejected
from fedcore.protos.values import BlobRef
from fedcore.protos.wire import INLINE_BYTES
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.link import Link


def put_blob(blobs: BlobStore, data: bytes, name: str) -> BlobRef:
    """Store `data` and return its reference, which contains the bytes up to `INLINE_BYTES`."""
    inline = data if len(data) <= INLINE_BYTES else b""
    return BlobRef(id=blobs.put_bytes(data), size=len(data), name=name, inline=inline)


def payload(ref: BlobRef, blobs: BlobStore) -> bytes:
    """Return a blob's bytes from its message or the store, verified either way.

    Raises BlobCorrupt where they do not hash to the name, ProtocolError where the blob is not here.
    """
    return verified(ref) if ref.inline else blobs.read_bytes(ref.id)


def payload_view(ref: BlobRef, blobs: BlobStore) -> memoryview:
    """Return a blob's verified bytes as `payload` does, but map a stored blob instead of reading it."""
    if ref.inline:
        return memoryview(verified(ref))
    view = blobs.view(ref.id)
    actual_id = "sha256:" + hashlib.sha256(view).hexdigest()
    if actual_id != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the blob in the store is {actual_id}; delete it, fetch it again")
    return view


def inline_payload(ref: BlobRef, limit: int) -> memoryview:
    """Return the verified bytes inside a message.

    Raises UpdateRejected where they are more than `limit`, BlobCorrupt where they do not hash to the name.
    """
    if len(ref.inline) > min(limit, INLINE_BYTES):
        raise UpdateRejected(f"{len(ref.inline)} bytes came inside a message, expected at most {limit}")
    return memoryview(verified(ref))


def verified(ref: BlobRef) -> bytes:
    """Return the bytes inside a reference; raises BlobCorrupt where they do not hash to its id."""
    actual_id = "sha256:" + hashlib.sha256(ref.inline).hexdigest()
    if actual_id != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes inside the message are {actual_id}; send them again")
    return ref.inline


async def fetch_all(link: Link, blobs: BlobStore, refs: Sequence[BlobRef]) -> int:
    """Download every blob that the store lacks and return the bytes received.

    A blob comes as a delta where its reference offers one against a blob that the store has.
    """
    return sum([await _fetch(link, blobs, ref) for ref in refs])


async def _fetch(link: Link, blobs: BlobStore, ref: BlobRef) -> int:
    if ref.inline or blobs.has(ref.id) or not 0 < ref.delta_size < ref.size or not blobs.has(ref.delta_base):
        return await link.fetch(ref, blobs)
    delta, received = BlobRef(id=ref.delta_id, size=ref.delta_size), 0
    try:
        received = await link.fetch(delta, blobs)
        await asyncio.to_thread(_rebuild, blobs, ref)
    except ProtocolError:  # the delta is useless here; the whole blob does not depend on its base
        received += await link.fetch(ref, blobs)
    finally:
        blobs.delete(delta.id)
    return received


def _rebuild(blobs: BlobStore, ref: BlobRef) -> None:
    """Store a blob made of its base and its delta; raises ProtocolError where they do not give its bytes."""
    data = apply_delta(blobs.read_bytes(ref.delta_base), blobs.read_bytes(ref.delta_id))
    if blob_name(data) != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, its delta gives {blob_name(data)}")
    blobs.put_bytes(data)
