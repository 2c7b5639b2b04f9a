"""An edge's submissions on their way up: packed by the worker, uploaded where they are large, told, told again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from fedcore.core.errors import FedcoreError, TransportError, UpdateLate
from fedcore.core.rounds.tier.commands import Send
from fedcore.protos.tier_values import PartialSubmission
from fedcore.protos.values import BlobRef, UploadHeader
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.process.tasks import Tasks
from fedcore.transport.link import Link
from fedcore.transport.retry import PAUSE_S, retrying

LATE_TRIES = 30  # a round that really is over is forgotten sooner, with its close or the next share
LATE_PAUSE_S = 1.0


@dataclass(slots=True, eq=False)
class _Flight:
    number: int
    submission: PartialSubmission | None = None  # None while it is being packed
    moving: bool = True
    again: bool = False  # asked for while it was moving


@dataclass(slots=True, kw_only=True, eq=False)
class EdgeSubmissions:
    """Submissions by number. `refused` hears that one cannot be had above any more. Lives on the event loop."""

    name: str
    link: Link
    uplink: EdgeUplink
    engine: EdgeEngine
    tasks: Tasks
    notes: EdgeNotes
    refused: Callable[[int, str], None]
    _flights: dict[int, _Flight] = field(default_factory=dict)
    _pushed_s: dict[str, float] = field(default_factory=dict)
    _times_s: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, str] = field(default_factory=dict)

    def pushed(self, device: str, now_s: float) -> None:
        """An assignment went down; a device's time counts from its first push."""
        self._pushed_s.setdefault(device, now_s)

    def arrived(self, device: str, now_s: float) -> None:
        """A device's update was verified."""
        self._times_s.setdefault(device, max(0.0, now_s - self._pushed_s.get(device, now_s)))

    def fault(self, device: str, message: str) -> None:
        """Why a device's part in the round does not count."""
        self._faults[device] = message

    def begin(self, order: Send) -> None:
        """Pack what is held, before anything else is folded, and send it up."""
        flight = self._flights[order.number] = _Flight(order.number)
        packing = self.tasks.submit(self.engine.pack, order, dict(self._times_s), dict(self._faults))
        self.tasks.spawn(self._fly(flight, order, packing))

    def again(self, number: int) -> None:
        """Its answer may have been lost with the stream: send it once more."""
        flight = self._flights.get(number)
        if flight is None:
            return
        if flight.moving:
            flight.again = True
        else:
            flight.moving = True
            self.tasks.spawn(self._deliver(flight))

    def landed(self, number: int) -> None:
        """It was answered."""
        self._flights.pop(number, None)

    def forget(self) -> None:
        """The round is behind us."""
        for known in (self._flights, self._pushed_s, self._times_s, self._faults):
            known.clear()

    async def _fly(self, flight: _Flight, order: Send, packing: Awaitable[PartialSubmission]) -> None:
        flight.submission = await packing
        below = {leaf for part in order.parts for leaf in self.engine.leaves(part)}
        self.notes.outcomes([leaf for leaf in flight.submission.leaves if leaf.device not in below])
        await self._deliver(flight)

    async def _deliver(self, flight: _Flight) -> None:
        if flight.submission is None:
            raise RuntimeError(f"submission {flight.number} was never packed")
        try:
            while self._wanted(flight) and not await self._delivered(flight, flight.submission):
                pass
        except FedcoreError as error:
            if self._wanted(flight):
                self.refused(flight.number, str(error))
        finally:
            flight.moving = False
        if flight.again and self._wanted(flight):
            flight.again = False
            self.again(flight.number)

    async def _delivered(self, flight: _Flight, submission: PartialSubmission) -> bool:
        """Send it up. False where it shall be tried again: an upload broke, not the stream, and nobody else asks."""
        try:
            for ref in (submission.partial, submission.scores):
                if ref is not None and not ref.inline:
                    await self._bring_up(flight, ref, submission.round)
        except TransportError:
            if not self.uplink.connected:
                return True
            await asyncio.sleep(PAUSE_S)
            return False
        if self._wanted(flight):
            self.uplink.send(submission)
        return True

    async def _bring_up(self, flight: _Flight, ref: BlobRef, number: int) -> None:
        """Upload one blob. A parent that came in place of a dead one may not have heard of the round yet."""
        for _ in range(LATE_TRIES):
            if not self._wanted(flight):
                return
            try:
                await retrying(partial(self._upload, ref, number))
                return
            except UpdateLate:
                await asyncio.sleep(LATE_PAUSE_S)
        await self._upload(ref, number)

    def _wanted(self, flight: _Flight) -> bool:
        return self._flights.get(flight.number) is flight

    async def _upload(self, ref: BlobRef, number: int) -> None:
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self.uplink.session, round=number)
        await self.link.upload(self.engine.blobs.view(ref.id), header)  # who closes it meets slices of a broken call
