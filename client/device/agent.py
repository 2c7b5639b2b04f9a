"""The device: takes assignments off its stream, has them carried out, and sends what came of them."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from fedcore.client.device.state import Spooled, StateFolder
from fedcore.client.training.device_report import device_report
from fedcore.client.training.encoding import encoded_scores, encoded_update
from fedcore.client.training.held_shift import HeldShift
from fedcore.client.training.trainer import Cancelled, Trained, Trainer
from fedcore.client.training.training_state import TrainingState, load_training_state, save_training_state
from fedcore.core.errors import BlobCorrupt, FedcoreError, TransportError, UpdateLate
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.round import assignment_key
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    Progress,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    UploadHeader,
    Verdict,
    Welcome,
    WireAssignment,
)
from fedcore.protos.wire import INLINE_BYTES
from fedcore.transport.download import Received, read_received
from fedcore.transport.link import Link, Stream
from fedcore.transport.payload import fetch_all
from fedcore.transport.retry import PAUSE_S, retrying

MAX_REPORT = 500  # characters of an error that travel to the coordinator


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """What the coordinator's word on one round's update commits."""

    round: int
    keep_set: KeepSet
    training: TrainingState


@dataclass(slots=True, kw_only=True)
class Agent:
    """One device's side of a run. `make_trainer` is called once the labels are agreed."""

    name: str
    link: Link
    state: StateFolder
    make_trainer: Callable[[Welcome], Trainer]
    num_examples: int
    memory_mb: float
    say: Callable[[str], None]
    clock: Callable[[], float] = time.perf_counter
    retry_s: float = PAUSE_S  # between tries of a broken transfer
    _trainer: Trainer | None = None
    _training: TrainingState = field(default_factory=TrainingState)
    _session: str = ""
    _stream: Stream | None = None
    _pushed: Stream | None = None  # where the job's work was last pushed: a parent takes answers to its own pushes
    _job: asyncio.Task[None] | None = None
    _job_key: str = ""
    _repushed: bool = False  # work on the job's answer began before its last push, which may be another parent's
    _handout: set[str] = field(default_factory=set)
    _shift: HeldShift = field(default_factory=HeldShift)
    _pending: _Pending | None = None
    _welcome: Welcome | None = None
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="torch"))

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """Take a seat; the model is loaded while the first assignment is awaited."""
        self._session, self._stream, self._welcome = welcome.session, stream, welcome
        if self._trainer is None:
            self._trainer = self.make_trainer(welcome)
            self._training = load_training_state(self.state.training_state)
            self._handout = self.state.blobs.names() - self.state.spooled_blobs()  # an earlier process's
            loop = asyncio.get_running_loop()
            warm = loop.run_in_executor(self._worker, self._trainer.prepare)
            warm.add_done_callback(lambda done: done.exception())  # the first assignment meets the same error
            self.say(f"joined; labels {', '.join(welcome.labels)}")

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """React to one message of the coordinator."""
        match message:
            case WireAssignment():
                await self._begin(message, stream)
            case UpdateVerdict():
                self._judged(message)
            case RoundClosed():
                self._closed(message)

    async def close(self) -> None:
        """Stop what is being worked on."""
        await self._stop_job()
        self._worker.shutdown(wait=False, cancel_futures=True)

    # --- one assignment ---

    async def _begin(self, assignment: WireAssignment, stream: Stream) -> None:
        key = assignment_key(assignment)
        self._pushed = stream
        if self._job is not None and not self._job.done() and key == self._job_key:
            self._repushed = True
            return  # pushed again after a reconnect: the job under way answers it
        await self._stop_job()
        self._job_key, self._repushed = key, True  # until work on it begins here
        self._job = asyncio.create_task(self._carry_out(assignment, key))

    async def _stop_job(self) -> None:
        if self._job is None or self._job.done():
            return
        if self._trainer is not None:
            self._trainer.cancel.set()
        self._job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._job
        if self._trainer is not None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._trainer.cancel.clear)

    async def _carry_out(self, assignment: WireAssignment, key: str) -> None:
        try:
            while not await self._tried(assignment, key):
                pass
        except (Cancelled, UpdateLate) as error:
            self.say(str(error))
        except FedcoreError as error:
            await self._fail(assignment, str(error))
        except Exception as error:  # out of memory, a driver's fault: this round is lost, the device is not
            await self._fail(assignment, f"{type(error).__name__}: {error}")
            if self._welcome is not None:  # the model may have been left half pruned
                self._trainer = self.make_trainer(self._welcome)

    async def _tried(self, assignment: WireAssignment, key: str) -> bool:
        """Produce and deliver; False where that failed and the work was pushed again meanwhile: this job answers it."""
        pushed = self._pushed
        try:
            spooled = self.state.spooled()
            if spooled is None or spooled.assignment != key:
                self.state.residuals.settle(assignment.counted_round)
                self.state.clear_spool()
                spooled = await self._produce(assignment, key)
            await self._deliver(assignment, spooled)
        except TransportError as error:
            self.say(f"round {assignment.round}: {error}; the update is kept and sent once the work is pushed again")
            return self._pushed is pushed
        return True

    async def _fail(self, assignment: WireAssignment, message: str) -> None:
        self.say(f"round {assignment.round} failed: {message}")
        with contextlib.suppress(FedcoreError):  # unheard, the lease or the deadline says as much
            await self._tell(AssignmentFailure(round=assignment.round, message=message[:MAX_REPORT]))

    async def _produce(self, assignment: WireAssignment, key: str) -> Spooled:
        if self._trainer is None:
            raise TransportError("an assignment came before the welcome")
        self._repushed = False
        begin = self.clock()
        received, bytes_down = await self._receive(assignment)
        keep_set = received.keep_set
        downloaded = self.clock()
        loop = asyncio.get_running_loop()

        def on_step(step: int) -> None:
            progress = Progress(round=assignment.round, step=step, steps=assignment.local_steps)
            # Unheard progress is no loss: nobody looks at the future, and its exception goes with it.
            asyncio.run_coroutine_threadsafe(self._tell(progress), loop)

        trained: Trained = await loop.run_in_executor(
            self._worker, self._trainer.run, assignment, received, self._training, on_step
        )
        if self.memory_mb and trained.result.peak_memory_mb > self.memory_mb:
            self.say(
                f"round {assignment.round}: training held {trained.result.peak_memory_mb:.0f} MiB, "
                f"more than the class's limit of {self.memory_mb:.0f}"
            )
        encoding = self.clock()
        update, scores = await loop.run_in_executor(self._worker, self._encode, assignment, trained, keep_set)
        encoded = self.clock()
        self._pending = _Pending(round=assignment.round, keep_set=keep_set, training=trained.state)
        report = device_report(
            assignment,
            trained,
            num_examples=self.num_examples,
            download_s=downloaded - begin,
            encode_s=encoded - encoding,
            bytes_down=bytes_down,
        )
        submission = UpdateSubmission(
            round=assignment.round, update=update, scores=scores, keep_set=assignment.keep_set.id, report=report
        )
        spooled = Spooled(assignment=key, submission=submission)
        self.state.spool(spooled, keep_set)
        return spooled

    async def _receive(self, assignment: WireAssignment) -> tuple[Received, int]:
        """Bring and read what the work hands out, and tell how many bytes came.

        What a power cut has spoilt here is brought once more.
        """
        bytes_down = await self._fetch(assignment)
        try:
            received = read_received(assignment, self.state.blobs)
        except BlobCorrupt as error:
            self.say(f"round {assignment.round}: {error}; all of the hand-out is fetched again")
            for ref in assignment.refs:
                self.state.blobs.delete(ref.id)
            bytes_down += await self._fetch(assignment)
            received = read_received(assignment, self.state.blobs)
        self._shift.take(assignment.base_shift, self.state.blobs)
        return received.with_shift(self._shift.tensors), bytes_down

    async def _fetch(self, assignment: WireAssignment) -> int:
        refs = (*assignment.refs, *self._shift.lacks(assignment.base_shift))
        bytes_down = await retrying(lambda: fetch_all(self.link, self.state.blobs, refs), pause_s=self.retry_s)
        self._forget_older(refs)
        return bytes_down

    def _forget_older(self, refs: tuple[BlobRef, ...]) -> None:
        """Keep only the hand-out in use: blocks that did not change stay, the rest would pile up."""
        current = {ref.id for ref in refs if not ref.inline}
        for blob_id in self._handout - current:
            self.state.blobs.delete(blob_id)
        self._handout = current

    async def _deliver(self, assignment: WireAssignment, spooled: Spooled) -> None:
        begin = self.clock()
        submission = spooled.submission
        submission, sent = await self._send_blobs(assignment, submission)
        phases = {**submission.report.phase_s, "upload": self.clock() - begin}
        report = replace(submission.report, phase_s=phases, bytes_up=sent, repushed=self._repushed)
        self._check_pushed()
        await self._tell(replace(submission, report=report))
        self.say(
            f"round {assignment.round}: sparsity {assignment.arm.sparsity:.2f}, rank {assignment.arm.rank}, "
            f"loss {report.loss_before:.3f} -> {report.loss_after:.3f}, {phases['train']:.1f} s, {sent} bytes up"
        )

    async def _send_blobs(
        self, assignment: WireAssignment, submission: UpdateSubmission
    ) -> tuple[UpdateSubmission, int]:
        """Send update and scores: inside the submission where they are small, else as uploads."""
        sent, refs = 0, []
        for ref in (submission.update, submission.scores):
            if ref is not None and ref.size <= INLINE_BYTES:
                refs.append(await self.link.pack(ref, self.state.blobs.read_bytes(ref.id)))
                sent += ref.size
            elif ref is not None:
                sent += await retrying(functools.partial(self._upload, ref, assignment.round), pause_s=self.retry_s)
                refs.append(ref)
        scores = refs[1] if submission.scores is not None else None
        return replace(submission, update=refs[0], scores=scores), sent

    def _check_pushed(self) -> None:
        if self._pushed is not self._stream:
            raise TransportError("the parent has changed, and the new one has yet to push this work")

    async def _upload(self, ref: BlobRef, number: int) -> int:
        self._check_pushed()
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self._session, round=number)
        return await self.link.upload(self.state.blobs.view(ref.id), header)  # the receiver hashes it

    def _encode(
        self, assignment: WireAssignment, trained: Trained, keep_set: KeepSet
    ) -> tuple[BlobRef, BlobRef | None]:
        pieces = encoded_update(
            assignment, trained.increment, keep_set=keep_set, geometry=trained.geometry, residuals=self.state.residuals
        )
        update = self._put(pieces, "update")
        scores = trained.result.scores
        return update, None if scores is None else self._put(encoded_scores(scores), "scores")

    def _put(self, chunks: Iterable[bytes | memoryview], name: str) -> BlobRef:
        blob_id = self.state.blobs.put_chunks(chunks)
        return BlobRef(id=blob_id, size=self.state.blobs.size(blob_id), name=name)

    async def _tell(self, value: Progress | UpdateSubmission | AssignmentFailure) -> None:
        if self._stream is not None:
            await self._stream.send(value)

    # --- the coordinator's word ---

    def _judged(self, verdict: UpdateVerdict) -> None:
        pending = self._pending if self._pending is not None and self._pending.round == verdict.round else None
        spooled = self.state.spooled()
        if spooled is not None and spooled.submission.round != verdict.round:
            spooled = None  # of a later round: this word came late
        if verdict.verdict is Verdict.ACCEPTED:
            self._commit(pending, spooled)
        else:
            self.say(f"round {verdict.round}: update {verdict.verdict}: {verdict.message}")
            if spooled is not None:
                self.state.clear_spool()
        if pending is not None:
            self._pending = None  # committed, or rolled back: the next assignment starts from what was committed

    def _commit(self, pending: _Pending | None, spooled: Spooled | None) -> None:
        if pending is not None:
            self._training = pending.training
            self.state.commit_keep_set(pending.keep_set)
            save_training_state(self.state.training_state, self._training)
        elif spooled is not None and (keep_set := self.state.spooled_keep_set()) is not None:
            # Sent by an earlier process of this device: its moments are gone, its keep-set counts.
            self.state.commit_keep_set(keep_set)

    def _closed(self, closed: RoundClosed) -> None:
        spooled = self.state.spooled()
        if spooled is not None and spooled.submission.round <= closed.round:
            self.state.clear_spool()
