"""Flower's Grid over our coordinator: what a ServerApp sends goes down open streams, replies wake it up at once.

Called from the app's own thread; everything it touches lives on the event loop.
"""

import asyncio
import time
import uuid
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedcore.core.errors import FedcoreError
from fedcore.protos.values import AppReply, BlobRef
from fedcore.server.flower.app_queue import Failure, InFlight, Instruction
from fedcore.server.flower.host import AppHost
from fedcore.transport.payload import payload, put_blob

T = TypeVar("T")

FOREVER_S = 3600.0  # of one wait; a wait without a limit is made of these


class CoordinatorGrid(Grid):
    """What a ServerApp sees of our coordinator. `deadline_s` bounds every message, whatever its own time to live."""

    def __init__(self, host: AppHost, loop: asyncio.AbstractEventLoop, run: Run, deadline_s: float) -> None:
        """Talk to `host`, which lives on `loop`."""
        self._host = host
        self._loop = loop
        self._run = run
        self._deadline_s = deadline_s

    def set_run(self, run: Run) -> None:
        """Take over a run's description."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run this app is."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message; apps of today make them themselves."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Nodes whose device holds an open stream; raises TransportError once the coordinator stops."""
        return self._call(_now(self._host.nodes))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages and return their ids. A content that several of them share is serialised and stored once."""
        ids: list[str] = []
        contents: dict[int, tuple[RecordDict, BlobRef]] = {}  # the record is held, so that its id stays its own
        for message in messages:
            ids.append(self._push(message, contents))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies that are here; a message that failed has one with an error in it."""
        return self._ended(list(message_ids), 0.0)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return every reply, or what came within `timeout` seconds; nothing is polled."""
        waiting = set(self.push_messages(messages))
        until_s = time.monotonic() + timeout if timeout is not None else None
        replies: list[Message] = []
        while waiting:
            left_s = FOREVER_S if until_s is None else until_s - time.monotonic()
            came = self._ended(sorted(waiting), max(0.0, left_s))
            replies += came
            waiting -= {reply.metadata.reply_to_message_id for reply in came}
            if not came and left_s <= 0:
                break
        return replies

    def _push(self, message: Message, contents: dict[int, tuple[RecordDict, BlobRef]]) -> str:
        metadata = message.metadata
        metadata.__dict__["_message_id"] = uuid.uuid4().hex  # as Flower's own grids do: there is no setter
        record = message.content
        if id(record) not in contents:
            data = recorddict_to_proto(record).SerializeToString(deterministic=True)
            contents[id(record)] = record, put_blob(self._host.queue.blobs, data, "content")
        head = message_to_proto(make_message(metadata=metadata, content=RecordDict())).SerializeToString()
        instruction = Instruction(
            metadata=metadata,
            device=self._call(_now(self._host.device, metadata.dst_node_id)) or f"node {metadata.dst_node_id}",
            head=head,
            content=contents[id(record)][1],
            deadline_s=min(metadata.ttl, self._deadline_s),
        )
        self._call(_now(self._host.push, [instruction]))
        return metadata.message_id

    def _ended(self, message_ids: list[str], wait_s: float) -> list[Message]:
        over = self._call(self._host.ended(message_ids, wait_s))
        replies = [self._reply(flight) for flight in over]
        for flight in over:
            self._loop.call_soon_threadsafe(self._host.queue.forget, flight)
        return replies

    def _reply(self, flight: InFlight) -> Message:
        """Make the reply out of our own metadata: a device has no say in whose word it is."""
        asked = make_message(metadata=flight.instruction.metadata, content=RecordDict())
        match flight.end:
            case AppReply() as reply:
                answer = self._answer(reply)
            case Failure() as failure:
                answer = Error(failure.code, failure.reason)
            case None:
                raise RuntimeError(f"task {flight.task.number} was collected before its end")
        made = Message(answer, reply_to=asked)
        made.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        return made

    def _answer(self, reply: AppReply) -> RecordDict | Error:
        try:
            if reply.content is not None:
                data = payload(reply.content, self._host.queue.blobs)
                return recorddict_from_proto(ProtoRecordDict.FromString(data))
            head = message_from_proto(ProtoMessage.FromString(reply.head))
            return head.error if head.has_error() else Error(ErrorCode.UNKNOWN, "an empty reply")
        except (FedcoreError, FileNotFoundError) as error:
            return Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, str(error))
        except Exception as error:  # whatever a device's bytes do to Flower's decoder, the app goes on without them
            return Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, f"the reply cannot be read: {error!r}")

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _now(call: Any, *arguments: Any) -> Any:
    return call(*arguments)
