"""The grid of a ServerApp over a host on another thread's event loop: what goes down, and what a reply becomes."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedcore.protos.values import AppReply, BlobRef
from fedcore.server.flower.app_queue import AppQueue, Failure, InFlight, Instruction
from fedcore.server.flower.grid import CoordinatorGrid
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import payload, put_blob


class FakeHost:
    """A host of the devices ada (node 11) and bob (node 12); `ends` answer the messages in the order they came in."""

    def __init__(self, place: Path, ends: Sequence[AppReply | Failure | None] = ()) -> None:
        self.queue = AppQueue(blobs=BlobStore(place), run_config="{}", clock=lambda: 0.0, on_end=lambda _: None)
        self.ends = list(ends)
        self.pushed: list[Instruction] = []
        self.waits: list[float] = []

    def nodes(self) -> list[int]:
        return [11, 12]

    def device(self, node: int) -> str | None:
        return {11: "ada", 12: "bob"}.get(node)

    def push(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            self.pushed.append(instruction)
            task = self.queue.put(instruction)
            match self.ends.pop(0) if self.ends else None:
                case AppReply() as reply:
                    self.queue.reply(instruction.device, reply)
                case Failure() as failure:
                    self.queue.fail([instruction.device], failure.reason)
                case None:
                    assert task.number in self.queue.tasks

    async def collect(self, message_ids: Sequence[str], wait_s: float) -> list[InFlight]:
        self.waits.append(wait_s)
        return self.queue.collect(message_ids)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


@pytest.fixture(autouse=True)
def identity() -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def grid_of(host: FakeHost, loop: asyncio.AbstractEventLoop) -> CoordinatorGrid:
    return CoordinatorGrid(host, loop, Run.create_empty(run_id=1), 60.0)  # type: ignore[arg-type]


def content(text: str) -> RecordDict:
    return RecordDict({"config": ConfigRecord({"text": text})})


def encoded(record: RecordDict) -> bytes:
    return recorddict_to_proto(record).SerializeToString(deterministic=True)


def test_a_shared_content_is_stored_once_and_no_deadline_exceeds_the_grids(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    host, shared = FakeHost(tmp_path), content("question")
    grid = grid_of(host, loop)
    assert grid.get_node_ids() == [11, 12] and grid.run.run_id == 1
    messages = [Message(shared, node, "query", ttl=ttl) for node, ttl in ((11, 5.0), (12, 600.0), (13, 60.0))]
    ids = grid.push_messages(messages)
    assert len(set(ids)) == 3 and [each.metadata.message_id for each in host.pushed] == ids
    assert [(each.device, each.deadline_s) for each in host.pushed] == [("ada", 5.0), ("bob", 60.0), ("node 13", 60.0)]
    assert host.pushed[0].content is host.pushed[1].content is host.pushed[2].content
    sent = ProtoRecordDict.FromString(payload(host.pushed[0].content, host.queue.blobs))
    assert recorddict_from_proto(sent) == shared


def test_a_reply_has_the_devices_content_and_our_metadata(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    host = FakeHost(tmp_path)
    answer = put_blob(host.queue.blobs, encoded(content("answer")), "content")
    host.ends = [AppReply(number=1, head=b"in another's name", content=answer)]
    (reply,) = grid_of(host, loop).send_and_receive([Message(content("question"), 11, "query")])
    assert reply.content == content("answer")
    assert (reply.metadata.src_node_id, reply.metadata.message_type) == (11, "query")
    assert reply.metadata.reply_to_message_id == host.pushed[0].metadata.message_id


def test_what_went_wrong_is_an_error_reply(tmp_path: Path, loop: asyncio.AbstractEventLoop) -> None:
    host = FakeHost(tmp_path)
    question = Message(content("question"), 11, "query")
    question.metadata.__dict__["_message_id"] = "any"
    raised = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "ValueError: no"), reply_to=question)
    host.ends = [
        AppReply(number=1, head=message_to_proto(raised).SerializeToString()),
        AppReply(number=2, head=b"", content=put_blob(host.queue.blobs, b"\xff", "content")),
        AppReply(number=3, head=b"", content=BlobRef(id="sha256:" + "0" * 64, size=1, inline=b"x")),
        Failure(code=ErrorCode.NODE_UNAVAILABLE, reason="the device has left"),
    ]
    replies = grid_of(host, loop).send_and_receive([Message(content("question"), 11, "query") for _ in host.ends])
    errors: dict[int, list[str]] = defaultdict(list)
    for reply in replies:
        errors[reply.error.code].append(reply.error.reason)
    assert errors[ErrorCode.CLIENT_APP_RAISED_EXCEPTION] == ["ValueError: no"]
    assert errors[ErrorCode.NODE_UNAVAILABLE] == ["the device has left"]
    corrupt, unread = sorted(errors[ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
    assert corrupt.startswith("expected sha256:0000") and unread.startswith("the reply cannot be read: DecodeError")


def test_replies_so_far_come_at_once_and_a_timeout_ends_the_wait(
    tmp_path: Path, loop: asyncio.AbstractEventLoop
) -> None:
    host = FakeHost(tmp_path)
    grid = grid_of(host, loop)
    assert grid.send_and_receive([Message(content("question"), 11, "query")], timeout=0.0) == []
    assert grid.pull_messages([host.pushed[0].metadata.message_id, "unknown"]) == []
    assert host.waits == [0.0, 0.0]
