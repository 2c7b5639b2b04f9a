"""An edge's submissions on their way up: packed by the worker, uploaded where they are large, told, told again."""

import mmap
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from fedcore.errors import FedcoreError, TransportError
from fedcore.rounds.tier_commands import Send
from protos.tier_values import PartialSubmission
from protos.values import BlobRef, UploadHeader
from server.edge_engine import EdgeEngine
from server.edge_notes import EdgeNotes
from server.edge_uplink import EdgeUplink
from server.tasks import Tasks
from transport.link import Link
from transport.retry import retrying


@dataclass(slots=True, eq=False)
class _Flight:
    number: int
    submission: PartialSubmission | None = None  # None while it is being packed
    moving: bool = True
    again: bool = False  # asked for while it was moving


@dataclass(slots=True, kw_only=True, eq=False)
class EdgeFlights:
    """One submission at a time. `refused` hears that a submission cannot be had above any more. On the event loop."""

    name: str
    link: Link
    uplink: EdgeUplink
    engine: EdgeEngine
    tasks: Tasks
    notes: EdgeNotes
    refused: Callable[[int, str], None]
    _current: _Flight | None = None
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
        """Pack what is held and send it up."""
        flight = self._current = _Flight(order.number)
        self.tasks.spawn(self._fly(flight, order))

    def again(self, number: int) -> None:
        """Its answer may have been lost with the stream: send it once more."""
        flight = self._current
        if flight is None or flight.number != number:
            return
        if flight.moving:
            flight.again = True
        else:
            flight.moving = True
            self.tasks.spawn(self._deliver(flight))

    def landed(self, number: int) -> None:
        """It was answered."""
        if self._current is not None and self._current.number == number:
            self._current = None

    def forget(self) -> None:
        """The round is behind us."""
        self._current = None
        for known in (self._pushed_s, self._times_s, self._faults):
            known.clear()

    async def _fly(self, flight: _Flight, order: Send) -> None:
        times_s, faults = dict(self._times_s), dict(self._faults)
        flight.submission = await self.tasks.in_worker(self.engine.pack, order, times_s, faults)
        below = {leaf for part in order.parts for leaf in self.engine.leaves(part)}
        self.notes.outcomes([leaf for leaf in flight.submission.leaves if leaf.device not in below])
        await self._deliver(flight)

    async def _deliver(self, flight: _Flight) -> None:
        submission = flight.submission
        if submission is None:
            raise RuntimeError(f"submission {flight.number} was never packed")
        try:
            for ref in (submission.partial, submission.scores):
                if ref is not None and not ref.inline and flight is self._current:
                    await retrying(partial(self._upload, ref, submission.round))
            if flight is self._current:
                self.uplink.tell(submission)
        except TransportError:
            pass  # the reconnect asks for it again
        except FedcoreError as error:
            if flight is self._current:
                self.refused(flight.number, str(error))
        finally:
            flight.moving = False
        if flight.again and flight is self._current:
            flight.again = False
            self.again(flight.number)

    async def _upload(self, ref: BlobRef, number: int) -> None:
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self.uplink.session, round=number)
        with self.engine.path(ref).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                await self.link.upload(view, header)
            finally:
                view.release()
