"""Messages of an app that are under way to devices, and what became of each. Lives on the event loop."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from flwr.app.metadata import Metadata
from flwr.common.constant import ErrorCode

from fedcore.protos.values import AppReply, AppTask, BlobRef, Verdict
from fedcore.storage.blobs.store import BlobStore

MAX_REPLY_BYTES = 2**31 - 1  # what one protobuf message holds, and Flower's serialisation makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """A message for a device: Flower's metadata, which a reply is made from, and how it travels."""

    metadata: Metadata
    device: str
    head: bytes
    content: BlobRef
    deadline_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no reply: a code of Flower's and words for people."""

    code: int
    reason: str


@dataclass(slots=True, kw_only=True, eq=False)
class InFlight:
    """One task on its way; over once there is an `end`."""

    task: AppTask
    instruction: Instruction
    begun_s: float
    end: AppReply | Failure | None = None

    @property
    def due_s(self) -> float:
        """When it has failed."""
        return self.begun_s + self.task.deadline_s


@dataclass(slots=True, kw_only=True)
class AppQueue:
    """Every task by number, until its end is collected. `blobs` keeps contents while a task needs them."""

    blobs: BlobStore
    run_config: str
    clock: Callable[[], float]
    on_end: Callable[[InFlight], None]  # called at every end, once
    flights: dict[int, InFlight] = field(default_factory=dict)
    _open: dict[str, dict[int, InFlight]] = field(default_factory=dict)  # by device, oldest first
    _over: dict[str, InFlight] = field(default_factory=dict)  # by message id, until collected
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    uploads: dict[int, set[str]] = field(default_factory=dict)  # blobs a device began to send, by task
    _last: int = 0
    _contents: Counter[str] = field(default_factory=Counter)  # tasks that need a blob

    def put(self, instruction: Instruction) -> AppTask:
        """Begin a task."""
        self._last += 1
        task = AppTask(
            number=self._last,
            head=instruction.head,
            content=instruction.content,
            deadline_s=instruction.deadline_s,
            max_reply_bytes=MAX_REPLY_BYTES,
            run_config=self.run_config,
        )
        flight = InFlight(task=task, instruction=instruction, begun_s=self.clock())
        self.flights[task.number] = flight
        self._open.setdefault(instruction.device, {})[task.number] = flight
        self._contents[task.content.id] += 1
        return task

    def open_of(self, device: str) -> list[AppTask]:
        """What a device has yet to answer, oldest first."""
        return [flight.task for flight in self._open.get(device, {}).values()]

    def limit(self, device: str, number: int) -> int | None:
        """Most bytes of a reply's content; None where this device has no such open task."""
        flight = self.flights.get(number)
        if flight is None or flight.end is not None or flight.instruction.device != device:
            return None
        return flight.task.max_reply_bytes

    def reply(self, device: str, reply: AppReply) -> Verdict | AppTask:
        """Take the answer of a device; an answer to anything but an open task of its own is refused.

        Returns the task if the reply's content is not here any more, because another device sent the same bytes and
        they were deleted with its task: a device that gets a task again sends its reply again.
        """
        flight = self.flights.get(reply.number)
        if flight is None or flight.instruction.device != device:
            return Verdict.LATE if 0 < reply.number <= self._last else Verdict.UNKNOWN
        content = reply.content
        if flight.end is None and content is not None and not content.inline and not self.blobs.has(content.id):
            return flight.task
        if flight.end is None:
            self._end(flight, reply)
        return Verdict.ACCEPTED if isinstance(flight.end, AppReply) else Verdict.LATE

    def fail(self, devices: Collection[str], reason: str) -> None:
        """End every open task of devices that are gone."""
        for device in devices:
            for flight in list(self._open.get(device, {}).values()):
                self._end(flight, Failure(code=ErrorCode.NODE_UNAVAILABLE, reason=reason))

    def expire(self) -> None:
        """End the tasks whose deadline has passed."""
        now_s = self.clock()
        for flight in list(self.flights.values()):
            if flight.end is None and now_s >= flight.due_s:
                reason = f"no reply within {flight.task.deadline_s:g} s"
                self._end(flight, Failure(code=ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason=reason))

    def collect(self, message_ids: Iterable[str]) -> list[InFlight]:
        """Take out the tasks of these messages that are over."""
        over = [self._over.pop(message_id) for message_id in message_ids if message_id in self._over]
        for flight in over:
            del self.flights[flight.task.number]
        return over

    def forget(self, flight: InFlight) -> None:
        """Delete the blobs that a collected task left, except those that another task still needs."""
        unused = self.uploads.pop(flight.task.number, set()) | _content(flight)
        for blob_id in unused.difference(*map(_content, self.flights.values()), self._contents):
            self.blobs.delete(blob_id)

    def _end(self, flight: InFlight, end: AppReply | Failure) -> None:
        flight.end = end
        device = flight.instruction.device
        del self._open[device][flight.task.number]
        if not self._open[device]:
            del self._open[device]
        self._over[flight.instruction.metadata.message_id] = flight
        content = flight.task.content
        self._contents[content.id] -= 1
        if not self._contents[content.id]:
            del self._contents[content.id]
            self.blobs.delete(content.id)
        self.on_end(flight)
        self.changed.set()


def _content(flight: InFlight) -> set[str]:
    reply = flight.end
    return {reply.content.id} if isinstance(reply, AppReply) and reply.content is not None else set()
