"""Staying a member: join, keep the lease, come back after every interruption, until the run is over.

Where there are several targets, one that cannot be reached is left for the next at once; only after a pass over all of
them is there a pause, twice as long every time. A target whose stream broke is tried once more, for it may have been
the connection alone. So a member whose parent has died sits elsewhere within seconds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from fedcore.core.errors import FedcoreError, ProtocolError, TransportError
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import Goodbye, Heartbeat, Join, Welcome
from fedcore.transport.link import Link, Stream

BEATS_PER_LEASE = 3
SILENT_SHARE = 0.75  # of a lease: a parent that has not said or taken anything for so long is given up for the next
LEAST_SILENCE_S = 5.0  # however short the lease: a busy machine may hold both sides up
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
AGAIN_S = 2.0  # for a target whose stream broke, where there are others; alive, it takes a fraction of this
SHORT_SEAT_S = 1.0  # who lost a seat sooner tries the next target first

MakeJoin = Callable[[], Awaitable[Join]]
OnWelcome = Callable[[Welcome, Stream], Awaitable[None]]
OnMessage = Callable[[AnyDownward, Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Holds one member's place in a run. `reconnect_s` bounds how long it tries to come back.

    `on_lost` is called whenever a session that `on_welcome` heard of has ended.
    """

    link: Link
    make_join: MakeJoin
    on_welcome: OnWelcome
    on_message: OnMessage
    say: Callable[[str], None]
    reconnect_s: float = 300.0
    on_lost: Callable[[], None] = lambda: None

    async def run(self) -> str:
        """Return the parent's reason for ending the run.

        Raises TransportError where every target stays unreachable, and a parent's own errors (JoinRefused,
        CertificateError, ...), which retrying cannot mend.
        """
        search = _Search(targets=len(self.link.targets), since_s=_now_s())
        while True:
            seat = _Seat()
            try:
                reason = await self._once(seat, search.limit_s(self.link))
                if reason is not None:
                    return reason
                search = search.after(seat)
                self.say("connection closed by the coordinator; coming back")
            except TransportError as error:
                search = search.after(seat)
                if search.given_up(self.reconnect_s):
                    raise TransportError(
                        f"{error}; gave up after {self.reconnect_s:g} s: is the coordinator running and reachable?"
                    ) from None
                self.say(f"{error}; trying again")
            if not search.again:
                await self.link.switch()
            await asyncio.sleep(search.pause_s)

    async def _once(self, seat: "_Seat", limit_s: float) -> str | None:
        join = await self.make_join()
        async with self.link.connect() as stream:
            welcome = await self._welcomed(join, stream, limit_s)
            if welcome is None:
                return None
            if not isinstance(welcome, Welcome):
                raise ProtocolError(f"expected a welcome after the join, got {type(welcome).__name__}")
            seat.since_s = _now_s()
            await self.on_welcome(welcome, stream)
            beside = [asyncio.create_task(_beat(stream, welcome.lease_s / BEATS_PER_LEASE))]
            if welcome.answers_beats:
                limit_s = max(LEAST_SILENCE_S, SILENT_SHARE * welcome.lease_s)
                beside.append(asyncio.create_task(_watch(self.link, stream, seat, limit_s)))
            try:
                return await self._serve(stream, seat)
            finally:
                self.on_lost()
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    async def _welcomed(self, join: Join, stream: Stream, limit_s: float) -> AnyDownward | None:
        try:
            async with asyncio.timeout(limit_s):
                await stream.send(join)
                return await stream.receive()
        except TimeoutError:
            raise TransportError(f"{self.link.target}: no answer to the join for {limit_s:g} s") from None

    async def _serve(self, stream: Stream, seat: "_Seat") -> str | None:
        while True:
            seat.listens_since_s = _now_s()
            message = await stream.receive()
            seat.listens_since_s = None
            if message is None:
                return None
            if isinstance(message, Goodbye):
                return message.reason
            if not isinstance(message, Heartbeat):
                await self.on_message(message, stream)


@dataclass(slots=True)
class _Seat:
    since_s: float | None = None  # of its welcome
    listens_since_s: float | None = None  # None while a message is being dealt with: nobody hears meanwhile
    hung: bool = False  # its parent was silent for too long


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """Looking for a seat: since when, and how many tries in a row have failed."""

    targets: int
    since_s: float
    tries: int = 0
    again: bool = False  # the target whose stream broke comes first

    def after(self, seat: _Seat) -> "_Search":
        """The search once a try has ended: a new one where it had brought a seat."""
        if seat.since_s is None:
            return replace(self, tries=self.tries + 1, again=False)
        again = self.targets == 1 or (_now_s() - seat.since_s >= SHORT_SEAT_S and not seat.hung)
        return _Search(targets=self.targets, since_s=_now_s(), again=again)

    @property
    def pause_s(self) -> float:
        """How long to wait before the next try: not at all in the middle of a pass over the targets."""
        passes, rest = divmod(self.tries, self.targets)
        return 0.0 if rest else min(FIRST_PAUSE_S * 2.0 ** min(max(passes, 1) - 1, 16), LONGEST_PAUSE_S)

    def limit_s(self, link: Link) -> float:
        """How long the next target has for its welcome: longer with every pass, for all may be slow."""
        if self.again and self.targets > 1:
            return min(AGAIN_S, link.contact_s)
        return min(link.contact_s * 2.0 ** min(self.tries // self.targets, 16), link.settings.silence_s)

    def given_up(self, reconnect_s: float) -> bool:
        """Whether the search ends here; every target gets its try."""
        return self.pause_s > 0 and _now_s() - self.since_s + self.pause_s > reconnect_s


async def _beat(stream: Stream, interval_s: float) -> None:
    with contextlib.suppress(FedcoreError):  # the reading side meets the same fault and acts on it
        while True:
            await asyncio.sleep(interval_s)
            await stream.send(Heartbeat())


async def _watch(link: Link, stream: Stream, seat: _Seat, limit_s: float) -> None:
    """Give a stream up whose parent hangs: its kernel may still answer for it."""
    while True:
        left_s = limit_s
        if seat.listens_since_s is not None:
            left_s += max(link.heard_s, seat.listens_since_s) - _now_s()
        if left_s <= 0:
            seat.hung = True
            stream.give_up()
            return
        await asyncio.sleep(left_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
