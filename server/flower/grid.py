"""Flower's Grid over our coordinator: a ServerApp's messages go down open streams, and replies wake it up at once.

The app calls it from its own thread; it runs everything on the event loop.
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

FOREVER_S = 3600.0  # of one wait; a wait without a limit repeats it


class CoordinatorGrid(Grid):
    """Our coordinator as a Grid for a ServerApp. `deadline_s` bounds every message, also one with a longer ttl."""

    def __init__(self, host: AppHost, loop: asyncio.AbstractEventLoop, run: Run, deadline_s: float) -> None:
        """Use `host`, which lives on `loop`."""
        self._host = host
        self._loop = loop
        self._run = run
        self._deadline_s = deadline_s

    def set_run(self, run: Run) -> None:
        """Set the description of the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a new message; current apps make messages themselves."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """Return the nodes with an open stream; raises TransportError once the coordinator stops."""
        return self._call(_now(self._host.nodes))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages and return their ids. Contents that several messages share are serialised and stored once."""
        ids: list[str] = []
        contents: dict[int, tuple[RecordDict, BlobRef]] = {}  # holds the record, so that its id stays unique
        for message in messages:
            ids.append(self._push(message, contents))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return the replies so far; the reply to a failed message has an error in it."""
        return self._collect(list(message_ids), 0.0)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return all replies, or those within `timeout` seconds; it does not poll."""
        waiting = set(self.push_messages(messages))
        until_s = time.monotonic() + timeout if timeout is not None else None
        replies: list[Message] = []
        while waiting:
            left_s = FOREVER_S if until_s is None else until_s - time.monotonic()
            new = self._collect(sorted(waiting), max(0.0, left_s))
            replies += new
            waiting -= {reply.metadata.reply_to_message_id for reply in new}
            if not new and left_s <= 0:
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

    def _collect(self, message_ids: list[str], wait_s: float) -> list[Message]:
        tasks = self._call(self._host.collect(message_ids, wait_s))
        replies = [self._reply(task) for task in tasks]
        for task in tasks:
            self._loop.call_soon_threadsafe(self._host.queue.forget, task)
        return replies

    def _reply(self, in_flight: InFlight) -> Message:
        """Make the reply from our own metadata, so that a device cannot reply in another's name."""
        request = make_message(metadata=in_flight.instruction.metadata, content=RecordDict())
        match in_flight.end:
            case AppReply() as reply:
                answer = self._answer(reply)
            case Failure() as failure:
                answer = Error(failure.code, failure.reason)
            case None:
                raise RuntimeError(f"task {in_flight.task.number} was collected before its end")
        message = Message(answer, reply_to=request)
        message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
        return message

    def _answer(self, reply: AppReply) -> RecordDict | Error:
        try:
            if reply.content is not None:
                data = payload(reply.content, self._host.queue.blobs)
                return recorddict_from_proto(ProtoRecordDict.FromString(data))
            head = message_from_proto(ProtoMessage.FromString(reply.head))
            return head.error if head.has_error() else Error(ErrorCode.UNKNOWN, "an empty reply")
        except (FedcoreError, FileNotFoundError) as error:
            return Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, str(error))
        except (
            Exception
        ) as error:  # whatever a device's bytes do to Flower's decoder, the app goes on without the reply
            return Error(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, f"the reply cannot be read: {error!r}")

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _now(call: Any, *arguments: Any) -> Any:
    return call(*arguments)
