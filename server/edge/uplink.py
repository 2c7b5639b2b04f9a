"""An edge's side of its stream to the tier above: what is said in order, and questions that want an answer."""

import asyncio
import contextlib
from dataclasses import dataclass, field

from fedcore.core.errors import FedcoreError, TransportError
from fedcore.protos.faults import BY_NAME
from fedcore.protos.tier_values import LeafJoin, LeafJoined, LeafRefused, TierUpward
from fedcore.protos.values import Join, Welcome
from fedcore.transport.link import Stream

MOMENT_S = 2.0  # an edge that begins, or reconnects, is soon there; who joins it has other parents to try


@dataclass(slots=True, eq=False)
class EdgeUplink:
    """Lives on the event loop. While the stream is down, what is said is dropped: it is said anew on the next one."""

    answer_s: float  # longest wait for the word on a join
    session: str = ""
    _up: asyncio.Event = field(default_factory=asyncio.Event)
    _queue: asyncio.Queue[TierUpward] = field(default_factory=asyncio.Queue)
    _sender: "asyncio.Task[None] | None" = None
    _asked: "dict[str, asyncio.Future[Welcome]]" = field(default_factory=dict)

    @property
    def connected(self) -> bool:
        """Whether the stream is up."""
        return self._up.is_set()

    def up(self, welcome: Welcome, stream: Stream) -> None:
        """The stream is (back) up."""
        self._stop()
        self.session, self._queue = welcome.session, asyncio.Queue()
        self._up.set()
        self._sender = asyncio.create_task(self._send(stream, self._queue))

    def down(self) -> None:
        """The stream has closed: whoever waits for a word is told to come again."""
        self._up.clear()
        self._stop()
        for waiting in self._asked.values():
            if not waiting.done():
                waiting.set_exception(TransportError("this edge has lost the tier above; join again, or elsewhere"))

    def send(self, message: TierUpward) -> None:
        """Send a message, after all that were sent before; while the stream is down it is dropped."""
        if self.connected:
            self._queue.put_nowait(message)

    async def wait_up(self) -> None:
        """Return once the stream is up; raises TransportError where that takes longer than a moment."""
        try:
            await asyncio.wait_for(self._up.wait(), MOMENT_S)
        except TimeoutError:
            raise TransportError("this edge has lost the tier above; join again, or elsewhere") from None

    async def ask(self, join: Join) -> Welcome:
        """Present a device and return its welcome; raises what the root raised, TransportError without an answer."""
        await self.wait_up()
        answer: asyncio.Future[Welcome] = asyncio.get_running_loop().create_future()
        older, self._asked[join.name] = self._asked.get(join.name), answer
        if older is not None and not older.done():
            older.set_exception(TransportError(f"{join.name} has joined again meanwhile"))
        self.send(LeafJoin(join=join))
        try:
            return await asyncio.wait_for(answer, self.answer_s)
        except TimeoutError:
            raise TransportError(f"no answer to the join of {join.name} for {self.answer_s:g} s") from None
        finally:
            if self._asked.get(join.name) is answer:
                del self._asked[join.name]

    def answered(self, message: LeafJoined | LeafRefused) -> bool:
        """Hand an answer to who asked; False where nobody did: then it answers a device presented again."""
        waiting = self._asked.get(message.device)
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
        with contextlib.suppress(FedcoreError):  # the reading side meets the same fault and acts on it
            while True:
                await stream.send(await queue.get())
