"""Stay connected to one of several parents until the run ends: join, keep the lease, reconnect after interruptions.

Theory of operation. One *attempt* connects to one target, joins and serves the stream until it ends. A *search* counts
the attempts since the last welcome. If a target cannot be reached, the next attempt goes to the next target at once; a
pause follows only after a pass over all targets, and doubles with every pass. If a stream breaks after a welcome, the
same target is tried once more, because only the connection may have failed. A client whose parent has died therefore
has another parent within seconds.
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
SILENT_SHARE = 0.75  # of a lease: a client leaves a parent that has neither sent nor read anything for so long
LEAST_SILENCE_S = 5.0  # however short the lease: a busy machine may delay both sides
FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
AGAIN_S = 2.0  # for the second try of a target, where there are others; a live parent answers in a fraction of it
SHORT_STAY_S = 1.0  # a client that lost its parent sooner than this tries the next target first

MakeJoin = Callable[[], Awaitable[Join]]
OnWelcome = Callable[[Welcome, Stream], Awaitable[None]]
OnMessage = Callable[[AnyDownward, Stream], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentConnection:
    """Keeps one client connected to a parent. `reconnect_s` bounds how long it tries to reconnect.

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
        CertificateError, ...): retrying does not help against them.
        """
        search = _Search(targets=len(self.link.targets), since_s=_now_s())
        while True:
            attempt = _Attempt()
            try:
                reason = await self._once(attempt, search.limit_s(self.link))
                if reason is not None:
                    return reason
                search = search.after(attempt)
                self.say("connection closed by the coordinator; coming back")
            except TransportError as error:
                search = search.after(attempt)
                if search.given_up(self.reconnect_s):
                    raise TransportError(
                        f"{error}; gave up after {self.reconnect_s:g} s: is the coordinator running and reachable?"
                    ) from None
                self.say(f"{error}; trying again")
            if not search.again:
                await self.link.switch()
            await asyncio.sleep(search.pause_s)

    async def _once(self, attempt: "_Attempt", limit_s: float) -> str | None:
        join = await self.make_join()
        async with self.link.connect() as stream:
            welcome = await self._welcomed(join, stream, limit_s)
            if welcome is None:
                return None
            if not isinstance(welcome, Welcome):
                raise ProtocolError(f"expected a welcome after the join, got {type(welcome).__name__}")
            attempt.since_s = _now_s()
            await self.on_welcome(welcome, stream)
            helpers = [asyncio.create_task(_beat(stream, welcome.lease_s / BEATS_PER_LEASE))]
            if welcome.answers_beats:
                limit_s = max(LEAST_SILENCE_S, SILENT_SHARE * welcome.lease_s)
                helpers.append(asyncio.create_task(_watch(self.link, stream, attempt, limit_s)))
            try:
                return await self._serve(stream, attempt)
            finally:
                self.on_lost()
                for task in helpers:
                    task.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)

    async def _welcomed(self, join: Join, stream: Stream, limit_s: float) -> AnyDownward | None:
        try:
            return await asyncio.wait_for(_answer(join, stream), limit_s)
        except asyncio.TimeoutError:
            raise TransportError(f"{self.link.target}: no answer to the join for {limit_s:g} s") from None

    async def _serve(self, stream: Stream, attempt: "_Attempt") -> str | None:
        while True:
            attempt.listens_since_s = _now_s()
            message = await stream.receive()
            attempt.listens_since_s = None
            if message is None:
                return None
            if isinstance(message, Goodbye):
                return message.reason
            if not isinstance(message, Heartbeat):
                await self.on_message(message, stream)


@dataclass(slots=True)
class _Attempt:
    """One connection to one target, and how it went."""

    since_s: float | None = None  # time of its welcome; None before it
    listens_since_s: float | None = None  # None while a message is handled: the stream is not read meanwhile
    hung: bool = False  # the parent was silent for too long


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """A search for a parent: when it began, and how many attempts in a row have failed."""

    targets: int
    since_s: float
    tries: int = 0
    again: bool = False  # try the target whose stream broke first

    def after(self, attempt: _Attempt) -> "_Search":
        """Return the search after an attempt: a new one if the attempt got a welcome."""
        if attempt.since_s is None:
            return replace(self, tries=self.tries + 1, again=False)
        again = self.targets == 1 or (_now_s() - attempt.since_s >= SHORT_STAY_S and not attempt.hung)
        return _Search(targets=self.targets, since_s=_now_s(), again=again)

    @property
    def pause_s(self) -> float:
        """Seconds to wait before the next attempt; 0 in the middle of a pass over the targets."""
        passes, rest = divmod(self.tries, self.targets)
        return 0.0 if rest else min(FIRST_PAUSE_S * 2.0 ** min(max(passes, 1) - 1, 16), LONGEST_PAUSE_S)

    def limit_s(self, link: Link) -> float:
        """Return the seconds for the next target's welcome; every pass doubles them, as all targets may be slow."""
        if self.again and self.targets > 1:
            return min(AGAIN_S, link.contact_s)
        return min(link.contact_s * 2.0 ** min(self.tries // self.targets, 16), link.settings.silence_s)

    def given_up(self, reconnect_s: float) -> bool:
        """Return whether the search ends here; never before every target had an attempt."""
        return self.pause_s > 0 and _now_s() - self.since_s + self.pause_s > reconnect_s


async def _answer(join: Join, stream: Stream) -> AnyDownward | None:
    await stream.send(join)
    return await stream.receive()


async def _beat(stream: Stream, interval_s: float) -> None:
    with contextlib.suppress(FedcoreError):  # the reading task meets the same fault and handles it
        while True:
            await asyncio.sleep(interval_s)
            await stream.send(Heartbeat())


async def _watch(link: Link, stream: Stream, attempt: _Attempt, limit_s: float) -> None:
    """Give up a stream if its parent hangs: keepalive misses that, because the parent's kernel still answers."""
    while True:
        left_s = limit_s
        if attempt.listens_since_s is not None:
            left_s += max(link.heard_s, attempt.listens_since_s) - _now_s()
        if left_s <= 0:
            attempt.hung = True
            stream.give_up()
            return
        await asyncio.sleep(left_s)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
