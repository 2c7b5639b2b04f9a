"""Payloads by reference: small ones inside the message that names them, large ones as blobs beside it."""

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
    """Store `data` and return its reference, with the bytes inside where they are few."""
    inline = data if len(data) <= INLINE_BYTES else b""
    return BlobRef(id=blobs.put_bytes(data), size=len(data), name=name, inline=inline)


def payload(ref: BlobRef, blobs: BlobStore) -> bytes:
    """Return a blob's bytes, out of its message or the store, verified either way.

    Raises BlobCorrupt where they do not hash to the name, ProtocolError where the blob is not here.
    """
    return verified(ref) if ref.inline else blobs.read_bytes(ref.id)


def payload_view(ref: BlobRef, blobs: BlobStore) -> memoryview:
    """Return a blob's bytes as `payload` does, verified, but mapped where they lie in the store."""
    if ref.inline:
        return memoryview(verified(ref))
    view = blobs.view(ref.id)
    found = "sha256:" + hashlib.sha256(view).hexdigest()
    if found != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the blob in the store is {found}; delete it, fetch it again")
    return view


def inline_payload(ref: BlobRef, limit: int) -> memoryview:
    """Return the bytes that came inside a message, verified.

    Raises UpdateRejected where there are more than `limit`, BlobCorrupt where they do not hash to the name.
    """
    if len(ref.inline) > min(limit, INLINE_BYTES):
        raise UpdateRejected(f"{len(ref.inline)} bytes came inside a message, expected at most {limit}")
    return memoryview(verified(ref))


def verified(ref: BlobRef) -> bytes:
    """Return the bytes inside a reference; raises BlobCorrupt where they do not hash to its name."""
    found = "sha256:" + hashlib.sha256(ref.inline).hexdigest()
    if found != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, the bytes inside the message are {found}; send them again")
    return ref.inline


async def fetch_all(link: Link, blobs: BlobStore, refs: Sequence[BlobRef]) -> int:
    """Bring every blob that is not here, as a delta where one is on offer against a blob that is; bytes received."""
    return sum([await _fetch(link, blobs, ref) for ref in refs])


async def _fetch(link: Link, blobs: BlobStore, ref: BlobRef) -> int:
    if ref.inline or blobs.has(ref.id) or not 0 < ref.delta_size < ref.size or not blobs.has(ref.delta_base):
        return await link.fetch(ref, blobs)
    delta, received = BlobRef(id=ref.delta_id, size=ref.delta_size), 0
    try:
        received = await link.fetch(delta, blobs)
        await asyncio.to_thread(_rebuild, blobs, ref)
    except ProtocolError:  # the whole blob needs nothing of what the delta was against
        received += await link.fetch(ref, blobs)
    finally:
        blobs.delete(delta.id)
    return received


def _rebuild(blobs: BlobStore, ref: BlobRef) -> None:
    """Make a blob out of its base and its delta; raises ProtocolError where they do not give it."""
    data = apply_delta(blobs.read_bytes(ref.delta_base), blobs.read_bytes(ref.delta_id))
    if blob_name(data) != ref.id:
        raise BlobCorrupt(f"expected {ref.id}, its delta gives {blob_name(data)}")
    blobs.put_bytes(data)
