"""A TCP proxy that breaks things: between a client and whatever it talks to, encrypted or not."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

READ_BYTES = 16 << 10


class Way(Enum):
    """Which way bytes go."""

    UP = "from the client"
    DOWN = "to the client"


class FaultProxy:
    """Carries connections to `target` (HOST:PORT) until it is told otherwise; faults may be set at any time."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = ""
        self.carried: Counter[Way] = Counter()  # bytes that reached the other side
        self.connections = 0
        self.cuts = 0  # connections cut so far
        self.refusing = False  # new connections are closed at once, as where nobody listens any more
        self.rate: float | None = None  # bytes per second and connection, either way; None is no limit
        self.delay_s = 0.0  # every piece arrives so much later
        self._budgets: dict[Way, deque[int]] = {way: deque() for way in Way}
        self._open: set[asyncio.Task[None]] = set()
        self._stalled = False
        self._server: asyncio.Server | None = None

    def cut(self, way: Way, *after_bytes: int) -> None:
        """Cut the connection once so many more bytes have gone that way; several: one cut after the other."""
        self._budgets[way].extend(after_bytes)

    def cut_now(self) -> None:
        """Cut every open connection."""
        for task in self._open:
            task.cancel()

    def stall(self, stalled: bool = True) -> None:
        """Swallow every byte and keep connections open, as a dead host or a lost radio does."""
        self._stalled = stalled

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def die(self) -> None:
        """Stop listening and cut everything: from here on nobody is at the address."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut_now()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        self.connections += 1
        host, _, port = self.target.rpartition(":")
        try:
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        pumps = [
            asyncio.create_task(self._pump(Way.UP, reader, far_writer)),
            asyncio.create_task(self._pump(Way.DOWN, far_reader, writer)),
        ]
        self._open.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        self._open.difference_update(pumps)
        for each in (writer, far_writer):
            each.close()  # what was carried arrives

    async def _pump(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(READ_BYTES) or await self._end():
                if self._stalled:
                    continue
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.rate is not None:
                    await asyncio.sleep(len(data) / self.rate)
                budget = self._budgets[way]
                whole = not budget or len(data) < budget[0]
                data = data if whole else data[: budget[0]]
                writer.write(data)
                await writer.drain()
                self.carried[way] += len(data)
                if not whole:
                    budget.popleft()
                    self.cuts += 1
                    return
                if budget:
                    budget[0] -= len(data)

    async def _end(self) -> bytes:
        """The end of a connection: of a stalled one nobody hears."""
        if self._stalled:
            await asyncio.Event().wait()
        return b""


@asynccontextmanager
async def proxying(target: str) -> AsyncIterator[FaultProxy]:
    """Stand between a client and `target` until the block ends."""
    proxy = FaultProxy(target)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.die()
