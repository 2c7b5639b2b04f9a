"""Blobs over real gRPC: broken uploads, sizes, sessions, and a base model for who has none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from fedcore.client.device.base_model import base_model
from fedcore.core.errors import ProtocolError, TransportError, UpdateLate
from fedcore.protos.convert import blob as blob_wire
from fedcore.protos.faults import error_of
from fedcore.protos.service import FleetStub
from fedcore.protos.values import BlobRef, Heartbeat, UploadHeader, Welcome, WireAssignment
from fedcore.protos.wire import CHUNK_BYTES, MAX_MESSAGE_BYTES
from fedcore.server.rounds.coordinator import Coordinator
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.transport.link import Link, Stream
from fedcore.transport.retry import retrying
from tests.fake_device import FakeDevice, Fault, open_link, put
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving

Together = Callable[..., Any]


async def beat(stream: Stream) -> None:
    while True:
        await stream.send(Heartbeat())
        await asyncio.sleep(0.05)


LARGE = ["run.rounds=1", "strategy.ranks=[64]"]


@pytest.fixture
async def served(tiny: TinyModel, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "run", tiny.folder, ["coordinator.min_devices=1"]) as run:
        yield run


class Member:
    """A device on an open stream, driven by hand."""

    def __init__(self, device: FakeDevice, stream: Stream, welcome: Welcome) -> None:
        self.device, self.stream = device, stream
        device.welcomes.append(welcome)

    @property
    def link(self) -> Link:
        return self.device.link

    async def assignment(self) -> WireAssignment:
        message = await asyncio.wait_for(self.stream.receive(), PATIENCE_S)
        assert isinstance(message, WireAssignment)
        return message

    def header(self, data: bytes, number: int, size: int | None = None) -> UploadHeader:
        return self.device.header(BlobRef(id=blob_name(data), size=len(data) if size is None else size), number)


@pytest.fixture
async def member(served: Served, tiny: TinyModel, tmp_path: Path) -> AsyncIterator[Member]:
    device = tiny.device(served, "hand", tmp_path)
    async with device.link.connect() as stream:
        await stream.send(await device.join())
        welcome = await asyncio.wait_for(stream.receive(), PATIENCE_S)
        assert isinstance(welcome, Welcome)
        yield Member(device, stream, welcome)
    await device.link.close()


async def test_a_broken_upload_goes_on_where_it_stopped(wide: TinyModel, tmp_path: Path, together: Together) -> None:
    async with serving(tmp_path / "run", wide.folder, LARGE) as served:
        broken = wide.device(served, "broken", tmp_path, fault=Fault.TRUNCATED, inline=False)
        whole = wide.device(served, "whole", tmp_path, inline=False)
        await together(broken, whole)
        summary = await served.summary()
    assert summary["rounds"][0]["accepted"] == 2
    (all_bytes,) = whole.sent
    assert all_bytes > CHUNK_BYTES, "small updates are sent anew"
    assert broken.sent == [all_bytes - all_bytes // 2], "only the rest is sent again"


async def test_an_upload_whose_chunks_stop_coming_is_given_up_and_kept_for_a_resume(
    tiny: TinyModel, tmp_path: Path
) -> None:
    overrides = ["coordinator.min_devices=1", "coordinator.lease_s=0.3", "coordinator.round_deadline_s=5"]
    async with serving(tmp_path / "run", tiny.folder, overrides) as served:
        device = tiny.device(served, "thin", tmp_path)
        async with device.link.connect() as stream:
            await stream.send(await device.join())
            welcome = await asyncio.wait_for(stream.receive(), PATIENCE_S)
            assignment = await asyncio.wait_for(stream.receive(), PATIENCE_S)
            assert isinstance(welcome, Welcome) and isinstance(assignment, WireAssignment)
            member = Member(device, stream, welcome)
            data = bytes(range(100))
            call = device.link._stub.PutBlob()
            await call.write(blob_wire.put_header(member.header(data, assignment.round)))
            await call.write(blob_wire.put_chunk(data[:60]))
            alive = asyncio.ensure_future(beat(stream))  # the device lives, only its upload is stuck
            with pytest.raises(TransportError, match=r"nothing moved for 0.3 s; connect again"):
                await asyncio.wait_for(device.link._raise(call), PATIENCE_S)
            stat = await device.link._stub.StatBlob(blob_wire.stat_request(blob_name(data)))
            assert (stat.complete, stat.received) == (False, 60)
            alive.cancel()
        await device.link.close()


async def test_an_upload_in_a_session_that_is_none_is_refused(member: Member, served: Served) -> None:
    header = UploadHeader(blob=BlobRef(id=blob_name(b"x"), size=1), offset=0, sender="hand", session="wrong", round=1)
    with pytest.raises(TransportError, match="upload by 'hand': no such session; join first, then send again"):
        await member.link.upload(memoryview(b"x"), header)
    assert not served.task.done()


async def test_an_upload_that_no_assignment_asks_for_is_late(member: Member) -> None:
    assignment = await member.assignment()
    with pytest.raises(UpdateLate, match=f"no open assignment of round {assignment.round + 1}; drop the update"):
        await member.link.upload(memoryview(b"x"), member.header(b"x", assignment.round + 1))


async def test_an_upload_larger_than_announced_is_cut_off(member: Member, served: Served) -> None:
    assignment = await member.assignment()
    data = b"twelve bytes"
    with pytest.raises(ProtocolError, match="expected at most 4 bytes"):
        await put(member.link, member.header(data, assignment.round, size=4), [data])
    assert "expected at most 4 bytes" in served.told("rejected", "hand")[0]["message"]
    assert not list((served.folder.blobs / "partial").glob("*"))


async def test_an_upload_that_leaves_a_gap_is_refused(member: Member) -> None:
    assignment = await member.assignment()
    header = member.header(b"twelve bytes", assignment.round)
    ahead = UploadHeader(blob=header.blob, offset=5, sender=header.sender, session=header.session, round=header.round)
    with pytest.raises(TransportError, match="continues at byte 5, 0 are here; start from there"):
        await put(member.link, ahead, [b"bytes"])


async def test_an_answer_that_time_has_overtaken_costs_one_more_try(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the upload, another sender of the same bytes may have brought them all."""
    data = bytes(member_bytes := CHUNK_BYTES + 1)
    monkeypatch.setattr(Coordinator, "upload_limit", lambda *_: member_bytes)
    assignment = await member.assignment()
    asked = member.link._stub.StatBlob
    answers = [blob_wire.stat_response(complete=False, received=CHUNK_BYTES)]

    async def overtaken() -> Any:
        return answers.pop()

    def stat(*arguments: Any, **options: Any) -> Any:
        return overtaken() if answers else asked(*arguments, **options)

    monkeypatch.setattr(member.link._stub, "StatBlob", stat)
    header = member.header(data, assignment.round)
    sent = await retrying(lambda: member.link.upload(memoryview(data), header), pause_s=0.01)
    assert sent == len(data) and not answers


async def test_an_upload_must_begin_with_a_header(member: Member) -> None:
    call = member.link._stub.PutBlob()
    await call.write(blob_wire.put_chunk(b"bytes"))
    with pytest.raises(ProtocolError, match="must begin with a header; update the client"):
        await asyncio.wait_for(member.link._raise(call), PATIENCE_S)


async def test_no_message_is_larger_than_the_wire_allows(member: Member, served: Served) -> None:
    assignment = await member.assignment()
    chunk = blob_wire.put_chunk(bytes(MAX_MESSAGE_BYTES + 1))
    limits = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(served.address, options=limits) as channel:
        call = FleetStub(channel).PutBlob()  # type: ignore[no-untyped-call]
        await call.write(blob_wire.put_header(member.header(b"x", assignment.round)))
        await call.initial_metadata()
        await call.write(chunk)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call, PATIENCE_S)
    error = error_of(caught.value, served.address)
    assert isinstance(error, ProtocolError) and "message too large for the wire" in str(error)
    link = open_link(served.address)
    assert (await link.describe()).labels == ("a", "b"), "the coordinator goes on"
    await link.close()


@pytest.mark.parametrize(
    ("blob_id", "offset", "words"),
    [
        ("sha256:" + "0" * 64, 0, "was never stored, or dropped when its round closed"),
        ("../../etc/passwd", 0, "expected sha256: and 64 lower-case hex digits"),
        ("config", 1 << 20, "start again from byte 0"),
    ],
)
async def test_a_download_of_what_is_not_there_says_why(blob_id: str, offset: int, words: str, served: Served) -> None:
    link = open_link(served.address)
    files = {file.name: file.id for file in (await link.describe()).model_files}
    request = blob_wire.get_request(files["config.json"] if blob_id == "config" else blob_id, offset)
    with pytest.raises(ProtocolError) as caught:
        async for _ in link._bounded(link._stub.GetBlob(request)):
            pass
    assert words in str(caught.value)
    await link.close()


async def test_a_device_without_the_base_model_fetches_it_as_blobs(
    tiny: TinyModel, tmp_path: Path, served: Served
) -> None:
    link = open_link(served.address)
    description = await link.describe()
    folder = await base_model(link, description, None, tmp_path / "state")
    assert fingerprint(folder) == tiny.mark == description.fingerprint
    assert {path.name for path in folder.iterdir()} == {path.name for path in tiny.folder.iterdir()}
    await link.close()
    assert await base_model(link, description, tiny.folder, tmp_path / "state") == tiny.folder
