"""The wire from the client's side, against a served coordinator: errors keep their kind, streams end with a reason."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import BlobCorrupt, JoinRefused, ProtocolError, TransportError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import BlobRef, Heartbeat, Join, Role, UploadHeader
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.transport.link import Link, LinkSettings
from fedcore.transport.throttle import Throttle
from tests.fake_device import open_link
from tests.tiny_run import PATIENCE_S, Served, serving, write_model


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    write_model(tmp_path / "model")
    async with serving(tmp_path / "run", tmp_path / "model") as run:
        yield run


@pytest.fixture
async def link(served: Served) -> AsyncIterator[Link]:
    opened = open_link(served.address)
    yield opened
    await opened.close()


def join(name: str, mark: Fingerprint, epoch: int = 1) -> Join:
    return Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=Role.DEVICE,
        name=name,
        device_uuid=name,
        epoch=epoch,
        profile=DeviceProfile(name=name, device_class="tiny", num_examples=1),
        fingerprint=mark,
        max_length=8,
        labels=("a",),
    )


async def test_the_description_is_what_the_coordinator_has(link: Link, tmp_path: Path) -> None:
    description = await link.describe()
    assert description.labels == ("a", "b") and description.max_length == 8
    assert description.fingerprint == fingerprint(tmp_path / "model")
    assert {ref.name for ref in description.model_files} == {"config.json", "model.safetensors", "tokenizer.json"}


async def test_a_download_goes_on_where_an_earlier_one_stopped(link: Link, tmp_path: Path) -> None:
    ref = next(each for each in (await link.describe()).model_files if each.name == "model.safetensors")
    data = (tmp_path / "model" / "model.safetensors").read_bytes()
    store = BlobStore(tmp_path / "store")
    with store.writer(ref.id, ref.size) as writer:
        writer.write(data[:1000])
    assert await link.fetch(ref, store) == len(data) - 1000
    assert store.read_bytes(ref.id) == data
    assert await link.fetch(ref, store) == 0, "what is here is not brought again"


async def test_a_damaged_partial_is_noticed_and_the_next_try_begins_anew(link: Link, tmp_path: Path) -> None:
    ref = next(each for each in (await link.describe()).model_files if each.name == "model.safetensors")
    store = BlobStore(tmp_path / "store")
    with store.writer(ref.id, ref.size) as writer:
        writer.write(b"spoilt")
    with pytest.raises(BlobCorrupt):
        await link.fetch(ref, store)
    assert await link.fetch(ref, store) == ref.size


async def test_a_blob_larger_than_announced_is_refused(link: Link, tmp_path: Path) -> None:
    ref = next(each for each in (await link.describe()).model_files if each.name == "model.safetensors")
    with pytest.raises(ProtocolError, match="expected at most 10 bytes"):
        await link.fetch(BlobRef(id=ref.id, size=10), BlobStore(tmp_path / "store"))


async def test_the_coordinators_own_errors_come_through(link: Link, tmp_path: Path) -> None:
    strange = Fingerprint(tensors="0" * 64, config="0" * 64, tokenizer="0" * 64)
    async with link.connect() as stream:
        await stream.send(join("odd", strange))
        with pytest.raises(JoinRefused, match="odd has another base model"):
            await asyncio.wait_for(stream.receive(), PATIENCE_S)
        for _ in range(2):
            with pytest.raises(JoinRefused, match="odd has another base model"):
                await stream.send(Heartbeat())


async def test_sending_on_a_stream_the_coordinator_closed_is_a_transport_error(link: Link, tmp_path: Path) -> None:
    mark = fingerprint(tmp_path / "model")
    async with link.connect() as older, link.connect() as newer:
        await older.send(join("same", mark))
        await asyncio.wait_for(older.receive(), PATIENCE_S)
        await newer.send(join("same", mark, epoch=2))
        await asyncio.wait_for(newer.receive(), PATIENCE_S)
        assert await asyncio.wait_for(older.receive(), PATIENCE_S) is None
        with pytest.raises(TransportError, match="the coordinator has closed the stream"):
            await older.send(Heartbeat())


async def test_an_address_without_a_server_is_a_transport_error_that_names_it() -> None:
    link = open_link("127.0.0.1:1")
    with pytest.raises(TransportError, match=r"127\.0\.0\.1:1: UNAVAILABLE"):
        await link.describe()
    await link.close()


async def test_a_coordinator_that_does_not_answer_is_a_transport_error(tmp_path: Path) -> None:
    server = socket.create_server(("127.0.0.1", 0))  # connections are made, and never accepted
    port = server.getsockname()[1]
    link = open_link(f"127.0.0.1:{port}", silence_s=0.2)
    begin = time.monotonic()
    with pytest.raises(TransportError):
        await asyncio.wait_for(link.describe(), PATIENCE_S)
    with pytest.raises(TransportError):
        await asyncio.wait_for(link.fetch(BlobRef(id="sha256:" + "0" * 64, size=1), BlobStore(tmp_path)), PATIENCE_S)
    assert time.monotonic() - begin < 5.0
    await link.close()
    server.close()


async def test_a_thin_downlink_takes_its_time_and_shows_how_fast_it_is(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcore.transport.link.LARGE_BYTES", 100)
    settings = LinkSettings(targets=(served.address,), tls=None, uplink=Throttle(0.0), downlink=Throttle(200_000.0))
    link = Link(settings)
    ref = next(each for each in (await link.describe()).model_files if each.name == "model.safetensors")
    begin = time.monotonic()
    await link.fetch(ref, BlobStore(tmp_path / "store"))
    assert time.monotonic() - begin >= ref.size * 8 / 200_000
    assert 0.05 < link.downlink_mbps <= 0.2
    before = link.downlink_mbps
    await link.fetch(replace(ref, inline=b"1"), BlobStore(tmp_path / "store"))
    assert link.downlink_mbps == before, "a small one says nothing"
    await link.close()


async def test_an_upload_without_a_session_is_refused_before_its_bytes_are_sent(link: Link) -> None:
    data = bytes(3 << 20)
    ref = BlobRef(id="sha256:" + "0" * 64, size=len(data))
    header = UploadHeader(blob=ref, offset=0, sender="nobody", session="none", round=1)
    with pytest.raises(TransportError, match="no such session; join first"):
        await link.upload(memoryview(data), header)
