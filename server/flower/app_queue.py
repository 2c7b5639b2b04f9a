"""An app's messages on their way to devices, and their replies or failures. Lives on the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode

from fedcore.protos.values import AppReply, AppTask, BlobRef, Verdict
from fedcore.storage.blobs.store import BlobStore

MAX_REPLY_BYTES = 2**31 - 1  # of one protobuf message, and so of Flower's serialisation


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A message for a device: Flower's metadata, from which a reply is made, and its encoded form."""

    metadata: Metadata
    device: str
    head: bytes
    content: BlobRef
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason for a missing reply: a Flower error code and a text for people."""

    code: int
    reason: str


@dataclass(slots=True, kw_only=True, eq=False)
class InFlight:
    """One task on its way; it is over once it has an `end`."""

    task: AppTask
    instruction: Instruction
    begun_s: float
    end: AppReply | Failure | None = None

    @property
    def due_s(self) -> float:
        """Time of the deadline, on the queue's clock."""
        return self.begun_s + self.task.deadline_s


@dataclass(slots=True, kw_only=True)
class AppQueue:
    """All tasks until their ends are collected. `blobs` keeps contents while a task needs them."""

    blobs: BlobStore
    run_config: str
    clock: Callable[[], float]
    on_end: Callable[[InFlight], None]  # called at every end, once
    tasks: dict[int, InFlight] = field(default_factory=dict)
    _open: dict[str, dict[int, InFlight]] = field(default_factory=dict)  # by device, oldest first
    _results: dict[str, InFlight] = field(default_factory=dict)  # by message id, until collected
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    uploads: dict[int, set[str]] = field(default_factory=dict)  # blobs that a device began to send, by task
    _last: int = 0
    _contents: Counter[str] = field(default_factory=Counter)  # tasks that need a blob

    def put(self, instruction: Instruction) -> AppTask:
        """Add a task for a message, and return it."""
        self._last += 1
        task = AppTask(
            number=self._last,
            head=instruction.head,
            content=instruction.content,
            deadline_s=instruction.deadline_s,
            max_reply_bytes=MAX_REPLY_BYTES,
            run_config=self.run_config,
        )
        in_flight = InFlight(task=task, instruction=instruction, begun_s=self.clock())
        self.tasks[task.number] = in_flight
        self._open.setdefault(instruction.device, {})[task.number] = in_flight
        self._contents[task.content.id] += 1
        return task

    def open_of(self, device: str) -> list[AppTask]:
        """Return the tasks that a device has not answered, oldest first."""
        return [in_flight.task for in_flight in self._open.get(device, {}).values()]

    def limit(self, device: str, number: int) -> int | None:
        """Return the most bytes of a reply's content; None if this device has no such open task."""
        in_flight = self.tasks.get(number)
        if in_flight is None or in_flight.end is not None or in_flight.instruction.device != device:
            return None
        return in_flight.task.max_reply_bytes

    def reply(self, device: str, reply: AppReply) -> Verdict | AppTask:
        """Take a device's reply and return the verdict; a reply to any but an open task of its own is refused.

        Returns the task instead if the reply's content is not here any more, because another device sent the same bytes
        and they were deleted with its task: a device that gets a task again sends its reply again.
        """
        in_flight = self.tasks.get(reply.number)
        if in_flight is None or in_flight.instruction.device != device:
            return Verdict.LATE if 0 < reply.number <= self._last else Verdict.UNKNOWN
        content = reply.content
        if in_flight.end is None and content is not None and not content.inline and not self.blobs.has(content.id):
            return in_flight.task
        if in_flight.end is None:
            self._end(in_flight, reply)
        return Verdict.ACCEPTED if isinstance(in_flight.end, AppReply) else Verdict.LATE

    def fail(self, devices: Collection[str], reason: str) -> None:
        """End all open tasks of devices that are gone, as failures."""
        for device in devices:
            for in_flight in list(self._open.get(device, {}).values()):
                self._end(in_flight, Failure(code=ErrorCode.NODE_UNAVAILABLE, reason=reason))

    def expire(self) -> None:
        """End the tasks with a past deadline."""
        now_s = self.clock()
        for in_flight in list(self.tasks.values()):
            if in_flight.end is None and now_s >= in_flight.due_s:
                reason = f"no reply within {in_flight.task.deadline_s:g} s"
                self._end(in_flight, Failure(code=ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason=reason))

    def collect(self, message_ids: Iterable[str]) -> list[InFlight]:
        """Remove and return those tasks of these messages that are over."""
        over = [self._results.pop(message_id) for message_id in message_ids if message_id in self._results]
        for in_flight in over:
            del self.tasks[in_flight.task.number]
        return over

    def forget(self, in_flight: InFlight) -> None:
        """Delete the blobs of a collected task, except those that another task still needs."""
        unused = self.uploads.pop(in_flight.task.number, set()) | _content(in_flight)
        for blob_id in unused.difference(*map(_content, self.tasks.values()), self._contents):
            self.blobs.delete(blob_id)

    def _end(self, in_flight: InFlight, end: AppReply | Failure) -> None:
        in_flight.end = end
        device = in_flight.instruction.device
        del self._open[device][in_flight.task.number]
        if not self._open[device]:
            del self._open[device]
        self._results[in_flight.instruction.metadata.message_id] = in_flight
        content = in_flight.task.content
        self._contents[content.id] -= 1
        if not self._contents[content.id]:
            del self._contents[content.id]
            self.blobs.delete(content.id)
        self.on_end(in_flight)
        self.changed.set()


def _content(in_flight: InFlight) -> set[str]:
    reply = in_flight.end
    return {reply.content.id} if isinstance(reply, AppReply) and reply.content is not None else set()
