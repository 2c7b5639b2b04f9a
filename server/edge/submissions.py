"""An edge's submissions to the tier above: packed by the worker, uploaded if they are large, sent, sent again."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from fedcore.core.errors import FedcoreError, TransportError, UpdateLate
from fedcore.core.rounds.tier.commands import Send
from fedcore.protos.tier_values import PartialSubmission
from fedcore.protos.values import AssignmentFailure, BlobRef, UploadHeader
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.process.tasks import Tasks
from fedcore.transport.link import Link
from fedcore.transport.retry import PAUSE_S, retrying

LATE_TRIES = 30  # a round that is over is forgotten sooner, at its close or with the next share
LATE_PAUSE_S = 1.0


@dataclass(slots=True, eq=False)
class _Submission:
    """One submission until the tier above answers it."""

    number: int
    message: PartialSubmission | None = None  # None while it is being packed
    sending: bool = True
    again: bool = False  # send it once more after this try


@dataclass(slots=True, kw_only=True, eq=False)
class EdgeSubmissions:
    """The open submissions of one edge. Lives on the event loop.

    `on_refusal` gets the number of a submission that the tier above does not accept any more, and why.
    """

    name: str
    link: Link
    uplink: EdgeUplink
    engine: EdgeEngine
    tasks: Tasks
    notes: EdgeNotes
    on_refusal: Callable[[int, str], None]
    _open: dict[int, _Submission] = field(default_factory=dict)
    _push_times_s: dict[str, float] = field(default_factory=dict)
    _times_s: dict[str, float] = field(default_factory=dict)
    _faults: dict[str, AssignmentFailure] = field(default_factory=dict)

    def note_push(self, device: str, now_s: float) -> None:
        """Note that an assignment was sent; a device's time counts from its first push."""
        self._push_times_s.setdefault(device, now_s)

    def note_update(self, device: str, now_s: float) -> None:
        """Note that a device's update was verified."""
        self._times_s.setdefault(device, max(0.0, now_s - self._push_times_s.get(device, now_s)))

    def note_fault(self, device: str, failure: AssignmentFailure) -> None:
        """Note why a device does not count in the round."""
        self._faults[device] = failure

    def begin(self, order: Send) -> None:
        """Pack the sum, before the worker folds anything else, and send it up."""
        submission = self._open[order.number] = _Submission(order.number)
        packing = self.tasks.submit(self.engine.pack, order, dict(self._times_s), dict(self._faults))
        self.tasks.spawn(self._send_packed(submission, order, packing))

    def send_again(self, number: int) -> None:
        """Send a submission once more, because its answer may have been lost with the stream."""
        submission = self._open.get(number)
        if submission is None:
            return
        if submission.sending:
            submission.again = True
        else:
            submission.sending = True
            self.tasks.spawn(self._send(submission))

    def end(self, number: int) -> None:
        """Forget a submission that was answered."""
        self._open.pop(number, None)

    def forget(self) -> None:
        """Forget the round."""
        for table in (self._open, self._push_times_s, self._times_s, self._faults):
            table.clear()

    async def _send_packed(self, submission: _Submission, order: Send, packing: Awaitable[PartialSubmission]) -> None:
        submission.message = await packing
        relayed = {device for part in order.parts for device in self.engine.devices_in(part)}
        self.notes.outcomes([outcome for outcome in submission.message.leaves if outcome.device not in relayed])
        await self._send(submission)

    async def _send(self, submission: _Submission) -> None:
        if submission.message is None:
            raise RuntimeError(f"submission {submission.number} was never packed")
        try:
            while self._is_open(submission) and not await self._try_to_send(submission, submission.message):
                pass
        except FedcoreError as error:
            if self._is_open(submission):
                self.on_refusal(submission.number, str(error))
        finally:
            submission.sending = False
        if submission.again and self._is_open(submission):
            submission.again = False
            self.send_again(submission.number)

    async def _try_to_send(self, submission: _Submission, message: PartialSubmission) -> bool:
        """Send it up. False if the caller must try again: an upload broke, and no reconnect will ask for another."""
        try:
            for ref in (message.partial, message.scores):
                if ref is not None and not ref.inline:
                    await self._upload_with_retries(submission, ref, message.round)
        except TransportError:
            if not self.uplink.connected:
                return True
            await asyncio.sleep(PAUSE_S)
            return False
        if self._is_open(submission):
            self.uplink.send(message)
        return True

    async def _upload_with_retries(self, submission: _Submission, ref: BlobRef, number: int) -> None:
        """Upload one blob. A parent that replaced a dead one may not have opened the round yet, so try for a while."""
        for _ in range(LATE_TRIES):
            if not self._is_open(submission):
                return
            try:
                await retrying(partial(self._upload, ref, number))
                return
            except UpdateLate:
                await asyncio.sleep(LATE_PAUSE_S)
        await self._upload(ref, number)

    def _is_open(self, submission: _Submission) -> bool:
        return self._open.get(submission.number) is submission

    async def _upload(self, ref: BlobRef, number: int) -> None:
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self.uplink.session, round=number)
        await self.link.upload(
            self.engine.blobs.view(ref.id), header
        )  # never closed: a broken call may still hold slices of it
