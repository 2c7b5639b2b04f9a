"""A device that runs a ClientApp: receives the app's messages, and answers every one of them.

The app is loaded once. Messages are worked on one after the other, off the event loop, so that a long one delays no
heartbeat. An answer is kept until the coordinator has it: after a reconnect it is sent, not made, again.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from flwr.app import Context, Message, RecordDict
from flwr.app.error import Error
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedcore.client.device.state import StateFolder
from fedcore.client.flower.context import load_context, save_context
from fedcore.core.errors import FedcoreError, TransportError
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import AppReply, AppTask, BlobRef, UpdateVerdict, UploadHeader, Verdict, Welcome
from fedcore.protos.wire import INLINE_BYTES
from fedcore.transport.link import Link, Stream
from fedcore.transport.payload import payload
from fedcore.transport.retry import PAUSE_S, retrying

MAX_REPORT = 500  # characters of an error that travel to the server


@dataclass(slots=True, kw_only=True)
class AppAgent:
    """One device's side of an app."""

    name: str
    link: Link
    state: StateFolder
    app: ClientApp
    node_config: Mapping[str, UserConfigValue]
    say: Callable[[str], None]
    retry_s: float = PAUSE_S  # between tries of a broken transfer
    _session: str = ""
    _stream: Stream | None = None
    _jobs: dict[int, asyncio.Task[None]] = field(default_factory=dict)  # by task, until the coordinator has the reply
    _replies: dict[int, AppReply] = field(default_factory=dict)
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="app"))

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """Begin a session; the coordinator sends again what it has no answer to."""
        self._session, self._stream = welcome.session, stream
        self.say("joined")

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """React to one message of the coordinator."""
        match message:
            case AppTask():
                job = self._jobs.get(message.number)
                if job is None or job.done():
                    self._jobs[message.number] = asyncio.create_task(self._carry_out(message))
            case UpdateVerdict():
                self._verdict_arrived(message)

    async def close(self) -> None:
        """Stop waiting for transfers; an app in the middle of a message is not interrupted."""
        for job in self._jobs.values():
            job.cancel()
        await asyncio.gather(*self._jobs.values(), return_exceptions=True)
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def _carry_out(self, task: AppTask) -> None:
        try:
            if task.number not in self._replies:
                self._replies[task.number] = await self._make_reply(task)
            await self._deliver(task, self._replies[task.number])
        except TransportError as error:
            self.say(f"message {task.number}: {error}; the reply is kept and sent once the message comes again")
        except FedcoreError as error:
            self.say(f"message {task.number}: {error}")

    async def _make_reply(self, task: AppTask) -> AppReply:
        blobs, content = self.state.blobs, task.content
        await retrying(lambda: self.link.fetch(content, blobs), pause_s=self.retry_s)
        reply = await asyncio.get_running_loop().run_in_executor(self._worker, self._answer, task)
        if not content.inline:
            blobs.delete(content.id)
        return reply

    def _answer(self, task: AppTask) -> AppReply:
        """Run the app; whatever it raises is its answer."""
        message = _message(task, payload(task.content, self.state.blobs))
        _identify(message)
        context = load_context(self.state.root, message.metadata.run_id) or Context(
            run_id=message.metadata.run_id,
            node_id=message.metadata.dst_node_id,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        context.node_config, context.run_config = dict(self.node_config), json.loads(task.run_config)
        try:
            reply = self.app(message, context)
            save_context(self.state.root, context)
            return self._pack_reply(task, reply)
        except Exception as error:  # an app's error is its answer: the strategy counts it as a failure
            self.say(f"message {task.number}: {type(error).__name__}: {error}")
            code, reason = ErrorCode.CLIENT_APP_RAISED_EXCEPTION, f"{type(error).__name__}: {error}"[:MAX_REPORT]
            return AppReply(number=task.number, head=_head(Message(Error(code, reason), reply_to=message)))

    def _pack_reply(self, task: AppTask, reply: Message) -> AppReply:
        if reply.has_error():
            return AppReply(number=task.number, head=_head(reply))
        data = recorddict_to_proto(reply.content).SerializeToString(deterministic=True)
        ref = BlobRef(id=self.state.blobs.put_bytes(data), size=len(data), name="content")
        return AppReply(number=task.number, head=b"", content=ref)

    async def _deliver(self, task: AppTask, reply: AppReply) -> None:
        ref = reply.content
        if ref is not None and ref.size <= INLINE_BYTES:
            packed = await self.link.pack(ref, self.state.blobs.read_bytes(ref.id))
            reply = replace(reply, content=packed)
        elif ref is not None:
            await retrying(lambda: self._upload(ref, task.number), pause_s=self.retry_s)
        if self._stream is None:
            raise TransportError("a message came before the welcome")
        await self._stream.send(reply)
        self.say(f"message {task.number}: {'an error' if ref is None else f'{ref.size} bytes'} up")

    async def _upload(self, ref: BlobRef, number: int) -> int:
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self._session, round=number)
        return await self.link.upload(self.state.blobs.view(ref.id), header)

    def _verdict_arrived(self, verdict: UpdateVerdict) -> None:
        reply = self._replies.pop(verdict.round, None)
        self._jobs.pop(verdict.round, None)
        if reply is not None and reply.content is not None:
            self.state.blobs.delete(reply.content.id)
        if verdict.verdict is not Verdict.ACCEPTED:
            self.say(f"message {verdict.round}: the reply is {verdict.verdict}")


def _message(task: AppTask, content: bytes) -> Message:
    message = message_from_proto(ProtoMessage.FromString(task.head))
    message.content = recorddict_from_proto(ProtoRecordDict.FromString(content))
    return message


def _head(reply: Message) -> bytes:
    return bytes(message_to_proto(reply).SerializeToString())


def _identify(message: Message) -> None:
    """Name the run and node that this process makes messages for, unless a ServerApp in it has done so."""
    try:
        TaskIdentity.run_id  # noqa: B018
    except RuntimeError:
        TaskIdentity.task_id, TaskIdentity.run_id = 1, message.metadata.run_id
        TaskIdentity.node_id = message.metadata.dst_node_id
