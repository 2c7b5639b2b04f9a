"""Staying a member: join, keep the lease, come back after every interruption, until the run is over."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fedcore.errors import FedcoreError, ProtocolError, TransportError
from protos.tier_values import AnyDownward
from protos.values import Goodbye, Heartbeat, Join, Welcome
from transport.link import Link, Stream

BEATS_PER_LEASE = 3
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0

MakeJoin = Callable[[], Awaitable[Join]]
OnWelcome = Callable[[Welcome, Stream], Awaitable[None]]
OnMessage = Callable[[AnyDownward, Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Holds one member's place in a run. `reconnect_s` bounds how long it tries to come back."""

    link: Link
    make_join: MakeJoin
    on_welcome: OnWelcome
    on_message: OnMessage
    say: Callable[[str], None]
    reconnect_s: float = 300.0

    async def run(self) -> str:
        """Return the coordinator's reason for ending the run.

        Raises TransportError where it stays unreachable, and the coordinator's own errors (JoinRefused,
        CertificateError, ...), which retrying cannot mend.
        """
        loop = asyncio.get_running_loop()
        silent_since, pause = loop.time(), FIRST_PAUSE_S
        seats = _Seats()
        while True:
            before = seats.taken
            try:
                reason = await self._once(seats)
                if reason is not None:
                    return reason
                silent_since, pause = loop.time(), FIRST_PAUSE_S
                self.say("connection closed by the coordinator; coming back")
            except TransportError as error:
                if seats.taken > before:  # it had been a member: a new interruption
                    silent_since, pause = loop.time(), FIRST_PAUSE_S
                if loop.time() - silent_since + pause > self.reconnect_s:
                    raise TransportError(
                        f"{error}; gave up after {self.reconnect_s:g} s: is the coordinator running and reachable?"
                    ) from None
                self.say(f"{error}; trying again")
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _once(self, seats: "_Seats") -> str | None:
        join = await self.make_join()
        async with self.link.connect() as stream:
            await stream.send(join)
            welcome = await self._welcomed(stream)
            if welcome is None:
                return None
            if not isinstance(welcome, Welcome):
                raise ProtocolError(f"expected a welcome after the join, got {type(welcome).__name__}")
            seats.taken += 1
            await self.on_welcome(welcome, stream)
            beat = asyncio.create_task(_beat(stream, welcome.lease_s / BEATS_PER_LEASE))
            try:
                return await self._serve(stream)
            finally:
                beat.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await beat

    async def _welcomed(self, stream: Stream) -> AnyDownward | None:
        limit_s = self.link.settings.silence_s
        try:
            return await asyncio.wait_for(stream.receive(), limit_s)
        except TimeoutError:
            raise TransportError(f"{self.link.settings.target}: no answer to the join for {limit_s:g} s") from None

    async def _serve(self, stream: Stream) -> str | None:
        while (message := await stream.receive()) is not None:
            if isinstance(message, Goodbye):
                return message.reason
            await self.on_message(message, stream)
        return None


@dataclass(slots=True)
class _Seats:
    taken: int = 0  # welcomes so far


async def _beat(stream: Stream, interval_s: float) -> None:
    with contextlib.suppress(FedcoreError):  # the reading side meets the same fault and acts on it
        while True:
            await asyncio.sleep(interval_s)
            await stream.send(Heartbeat())
