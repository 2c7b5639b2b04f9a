"""Blobs brought whole or as deltas: whatever is on offer, what lies here hashes to its name."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.core.codec.delta import make_delta
from fedcore.core.errors import ProtocolError, TransportError
from fedcore.protos.values import BlobRef
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import fetch_all

OLD = np.random.default_rng(0).standard_normal(3000).astype(np.float32).tobytes()
NEW = (np.frombuffer(OLD, dtype=np.float32) * np.float32(1.001)).tobytes()
DELTA = make_delta(OLD, NEW)
REF = BlobRef(
    id=blob_name(NEW), size=len(NEW), delta_id=blob_name(DELTA), delta_base=blob_name(OLD), delta_size=len(DELTA)
)


@dataclass
class Server:
    """A link to a coordinator that holds these blobs."""

    held: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    async def fetch(self, ref: BlobRef, store: BlobStore) -> int:
        if ref.inline:
            return len(ref.inline)
        if store.has(ref.id):
            return 0
        self.asked.append(ref.id)
        if ref.id in self.broken:
            raise TransportError("the connection broke")
        if ref.id not in self.held:
            raise ProtocolError(f"blob {ref.id} is not here")
        store.put_bytes(self.held[ref.id])
        return ref.size


def serving(*blobs: bytes) -> Server:
    return Server(held={blob_name(data): data for data in blobs})


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path)
    store.put_bytes(OLD)
    return store


async def test_a_delta_brings_the_very_bytes_for_less(blobs: BlobStore) -> None:
    server = serving(NEW, DELTA)
    assert await fetch_all(server, blobs, [REF]) == len(DELTA) < 0.8 * len(NEW)  # type: ignore[arg-type]
    assert server.asked == [REF.delta_id]
    assert blobs.read_bytes(REF.id) == NEW and blobs.has(REF.delta_base) and not blobs.has(REF.delta_id)
    assert await fetch_all(server, blobs, [REF]) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "offer",
    [
        {"delta_base": blob_name(b"something else")},
        {"delta_id": "", "delta_base": "", "delta_size": 0},
        {"delta_size": len(NEW)},
    ],
)
async def test_what_cannot_help_is_not_asked_for(offer: dict[str, str | int], blobs: BlobStore) -> None:
    server = serving(NEW, DELTA)
    assert await fetch_all(server, blobs, [replace(REF, **offer)]) == len(NEW)  # type: ignore[arg-type]
    assert server.asked == [REF.id] and blobs.read_bytes(REF.id) == NEW


@pytest.mark.parametrize(
    "delta",
    [
        b"no delta at all",
        make_delta(NEW, OLD),
        make_delta(OLD, OLD),
        b"",
    ],
    ids=["noise", "another base", "another blob", "gone"],
)
async def test_a_delta_that_does_not_give_the_blob_is_forgotten_for_the_whole(delta: bytes, blobs: BlobStore) -> None:
    server = serving(NEW, *([delta] if delta else []))
    ref = replace(REF, delta_id=blob_name(delta), delta_size=max(1, len(delta)))
    received = await fetch_all(server, blobs, [ref])  # type: ignore[arg-type]
    assert received == len(NEW) + len(delta) and server.asked == [ref.delta_id, ref.id]
    assert blobs.read_bytes(REF.id) == NEW and not blobs.has(ref.delta_id)


async def test_a_broken_connection_is_the_callers_to_try_again(blobs: BlobStore) -> None:
    server = serving(NEW, DELTA)
    server.broken = {REF.delta_id}
    with pytest.raises(TransportError):
        await fetch_all(server, blobs, [REF])  # type: ignore[arg-type]
    assert not blobs.has(REF.id)


async def test_a_blob_inside_its_message_needs_no_delta(blobs: BlobStore) -> None:
    server = serving()
    assert await fetch_all(server, blobs, [replace(REF, inline=NEW)]) == len(NEW)  # type: ignore[arg-type]
    assert server.asked == []
