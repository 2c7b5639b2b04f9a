"""An edge's side of its stream to the tier above: messages in order, and joins that wait for an answer."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from fedcore.core.errors import FedcoreError, TransportError
from fedcore.protos.faults import BY_NAME
from fedcore.protos.tier_values import LeafJoin, LeafJoined, LeafRefused, TierUpward
from fedcore.protos.values import Join, Welcome
from fedcore.transport.link import Stream

MOMENT_S = 2.0  # a starting or reconnecting edge needs no longer; a device that joins it can try other parents


@dataclass(slots=True, eq=False)
class EdgeUplink:
    """Sends to the tier above. Lives on the event loop.

    While the stream is down, messages are dropped: the edge sends their content anew on the next stream.
    """

    answer_s: float  # longest wait for the answer to a join
    session: str = ""
    _connected: asyncio.Event = field(default_factory=asyncio.Event)
    _queue: asyncio.Queue[TierUpward] = field(default_factory=asyncio.Queue)
    _sender: "asyncio.Task[None] | None" = None
    _answers: "dict[str, asyncio.Future[Welcome]]" = field(default_factory=dict)  # by device, until they come

    @property
    def connected(self) -> bool:
        """Whether the stream is open."""
        return self._connected.is_set()

    def set_stream(self, welcome: Welcome, stream: Stream) -> None:
        """Send over `stream` from now on."""
        self._stop()
        self.session, self._queue = welcome.session, asyncio.Queue()
        self._connected.set()
        self._sender = asyncio.create_task(self._send(stream, self._queue))

    def drop_stream(self) -> None:
        """Note that the stream has closed; joins that wait for an answer raise TransportError."""
        self._connected.clear()
        self._stop()
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(TransportError("this edge has lost the tier above; join again, or elsewhere"))

    def send(self, message: TierUpward) -> None:
        """Send a message, after all earlier ones; while the stream is down it is dropped."""
        if self.connected:
            self._queue.put_nowait(message)

    async def wait_connected(self) -> None:
        """Return once the stream is open; raises TransportError after MOMENT_S seconds."""
        try:
            await asyncio.wait_for(self._connected.wait(), MOMENT_S)
        except asyncio.TimeoutError:
            raise TransportError("this edge has lost the tier above; join again, or elsewhere") from None

    async def ask(self, join: Join) -> Welcome:
        """Present a device and return its welcome; raises the root's error, or TransportError without an answer."""
        await self.wait_connected()
        answer: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        older, self._answers[join.name] = self._answers.get(join.name), answer
        if older is not None and not older.done():
            older.set_exception(TransportError(f"{join.name} has joined again meanwhile"))
        self.send(LeafJoin(join=join))
        try:
            return await asyncio.wait_for(answer, self.answer_s)
        except asyncio.TimeoutError:
            raise TransportError(f"no answer to the join of {join.name} for {self.answer_s:g} s") from None
        finally:
            if self._answers.get(join.name) is answer:
                del self._answers[join.name]

    def take_answer(self, message: LeafJoined | LeafRefused) -> bool:
        """Hand an answer to the join that waits for it; False if none does, as for a device presented again."""
        waiting = self._answers.get(message.device)
        if waiting is None or waiting.done():
            return False
        if isinstance(message, LeafJoined):
            waiting.set_result(message.welcome)
        else:
            waiting.set_exception(BY_NAME.get(message.error, FedcoreError)(message.message))
        return True

    def _stop(self) -> None:
        if self._sender is not None:
            self._sender.cancel()

    async def _send(self, stream: Stream, queue: "asyncio.Queue[TierUpward]") -> None:
        with contextlib.suppress(FedcoreError):  # the reading side gets the same error and acts on it
            while True:
                await stream.send(await queue.get())
