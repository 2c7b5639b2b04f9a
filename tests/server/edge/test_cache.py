"""Blobs at an edge: each crosses the uplink once, and only those that are needed stay."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from fedcore.core.errors import BlobCorrupt, FedcoreError, ProtocolError, TransportError
from fedcore.protos.values import BlobRef
from fedcore.server.edge.cache import EdgeCache
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.link import Link
from tests.tiny_run import PATIENCE_S

BYTES = {blob_name(data): data for data in (b"one", b"two", b"three", b"delta", b"model")}
ONE, TWO, THREE, MODEL = (BlobRef(id=blob_name(data), size=len(data)) for data in (b"one", b"two", b"three", b"model"))
WITH_DELTA = BlobRef(id=ONE.id, size=3, delta_id=blob_name(b"delta"), delta_base=TWO.id, delta_size=5)


class Above:
    """A tier above that counts what is asked for, and fails as told."""

    def __init__(self, blobs: BlobStore) -> None:
        self.blobs = blobs
        self.asked: list[str] = []
        self.told: list[int] = []  # how many had been asked for when a lasting blob was here
        self.faults: list[FedcoreError] = []
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, ref: BlobRef, store: BlobStore) -> int:
        self.asked.append(ref.id)
        await self.open.wait()
        if self.faults:
            raise self.faults.pop()
        store.put_bytes(BYTES[ref.id])
        return ref.size


@pytest.fixture
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Above:
    monkeypatch.setattr("fedcore.transport.retry.retrying.__kwdefaults__", {"tries": 3, "pause_s": 0.0})
    return Above(BlobStore(tmp_path))


def caching(above: Above) -> EdgeCache:
    return EdgeCache(above.blobs, cast(Link, above), on_arrival=lambda: above.told.append(len(above.asked)))


async def test_many_who_ask_at_once_cost_one_transfer(above: Above) -> None:
    cache = caching(above)
    cache.learn([ONE])
    above.open.clear()
    waiting = [asyncio.ensure_future(cache.ensure_blob(ONE.id)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[3].cancel()  # who gives up takes the transfer from nobody
    await asyncio.sleep(0)
    above.open.set()
    ended = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), PATIENCE_S)
    assert [each for each in ended if each is not None] == [ended[3]] and above.asked == [ONE.id]
    await cache.ensure_blob(ONE.id)
    assert above.asked == [ONE.id] and cache.blob_ids() == (ONE.id,)


async def test_a_broken_transfer_is_tried_again_and_then_told_to_everybody(above: Above) -> None:
    cache = caching(above)
    cache.learn([ONE])
    above.faults = [TransportError("broken"), BlobCorrupt("bent")]
    await cache.ensure_blob(ONE.id)
    assert len(above.asked) == 3
    above.blobs.delete(ONE.id)
    above.faults = [TransportError("broken") for _ in range(3)]
    ended = await asyncio.gather(cache.ensure_blob(ONE.id), cache.ensure_blob(ONE.id), return_exceptions=True)
    assert [str(each) for each in ended] == ["broken", "broken"] and len(above.asked) == 6
    await cache.ensure_blob(ONE.id)
    assert cache.blob_ids() == (ONE.id,), "the next who asks has luck"


async def test_what_nobody_named_is_not_asked_for(above: Above) -> None:
    cache = caching(above)
    with pytest.raises(ProtocolError, match="never handed out, or dropped with its round"):
        await cache.ensure_blob(ONE.id)
    with pytest.raises(ProtocolError, match="expected sha256:"):
        await cache.ensure_blob("../../etc/passwd")
    assert above.asked == []


async def test_what_is_neither_lasting_nor_needed_goes(above: Above) -> None:
    cache = caching(above)
    cache.learn([MODEL], lasting=True)
    cache.learn([ONE, TWO, THREE])
    for ref in (ONE, MODEL, TWO, THREE):
        await cache.ensure_blob(ref.id)
    assert above.told == [2], "of the base model alone"
    cache.forget_all_but([TWO])
    assert cache.blob_ids() == tuple(sorted((MODEL.id, TWO.id)))
    assert above.blobs.names() == {MODEL.id, TWO.id}
    with pytest.raises(ProtocolError):
        await cache.ensure_blob(ONE.id)


async def test_a_delta_is_known_and_goes_with_its_blob(above: Above) -> None:
    cache = caching(above)
    cache.learn([WITH_DELTA])
    await cache.ensure_blob(WITH_DELTA.delta_id)
    cache.forget_all_but([WITH_DELTA])
    assert cache.blob_ids() == (WITH_DELTA.delta_id,)
    cache.forget_all_but([TWO])
    assert above.blobs.names() == set()


async def test_what_arrives_after_its_round_does_not_stay(above: Above) -> None:
    cache = caching(above)
    cache.learn([ONE])
    above.open.clear()
    waiting = asyncio.ensure_future(cache.ensure_blob(ONE.id))
    await asyncio.sleep(0)
    cache.forget_all_but([])
    above.open.set()
    await waiting
    await asyncio.sleep(0)
    assert above.blobs.names() == set() and cache.blob_ids() == ()


async def test_an_edge_begins_with_the_base_model_alone(above: Above) -> None:
    for ref in (MODEL, ONE):
        above.blobs.put_bytes(BYTES[ref.id])
    for ref in (TWO, THREE):
        with above.blobs.writer(ref.id, 9) as writer:
            writer.write(b"t")
    cache = caching(above)
    cache.learn([MODEL, THREE], lasting=True)
    cache.keep_lasting()
    assert above.blobs.names() == {MODEL.id, THREE.id} and above.blobs.partial_size(THREE.id) == 1


async def test_closing_ends_transfers_and_who_waits_for_them(above: Above) -> None:
    cache = caching(above)
    cache.learn([ONE])
    above.open.clear()
    waiting = asyncio.ensure_future(cache.ensure_blob(ONE.id))
    await asyncio.sleep(0)
    await asyncio.wait_for(cache.close(), PATIENCE_S)
    with pytest.raises(asyncio.CancelledError):
        await waiting
