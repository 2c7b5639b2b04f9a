"""The coordinator's event loop: sessions in front, the round machine in the middle, the engine behind.

Everything here runs on one asyncio loop and only hands things on; arithmetic and disk are the engine's, decisions
are the round machine's and the strategy's.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from fedcore.errors import CertificateError, DataError, FedcoreError, JoinRefused, RunError, TransportError
from fedcore.profile import check_name
from fedcore.rounds import commands, events
from fedcore.rounds.machine import step
from fedcore.rounds.state import RoundState
from protos.tier_values import AnyUpward
from protos.values import (
    AssignmentFailure,
    EvaluateTask,
    EvaluatorResult,
    Goodbye,
    Heartbeat,
    Join,
    Progress,
    Role,
    RoundClosed,
    RunDescription,
    TaskKind,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    Welcome,
)
from server.admission import check_identity, check_labels, check_model, check_protocol
from server.engine import Engine
from server.evaluator_desk import EvaluatorDesk
from server.run_log import RunLog
from server.seats import Seats
from server.session import Session
from storage.certificates import Identity

T = TypeVar("T")

MAX_REPORT = 500  # characters of a device's own words in an event


class Coordinator:
    """One run. `make_engine(labels)` is called once the label list is known."""

    def __init__(
        self,
        *,
        description: RunDescription,
        machine: RoundState,
        make_engine: Callable[[tuple[str, ...]], Engine],
        log: RunLog,
        rows_per_round: int,
        keep_result: Callable[[TaskKind, EvaluatorResult], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing runs before `start`."""
        self.description = description
        self.labels = description.labels
        self.engine: Engine | None = None
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.desk = EvaluatorDesk(on_result=self._evaluated)
        self._machine = machine
        self._make_engine = make_engine
        self._log = log
        self._rows_per_round = rows_per_round
        self._keep_result = keep_result
        self._clock = clock
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._seats = Seats()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._engine_lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.export_uploads: set[str] = set()  # blobs the evaluator began to send
        self._uploads: set[str] = set()  # blobs devices began to send since the last turn
        self._closed = False
        self._fault: BaseException | None = None  # the first one after the last round

    async def start(self) -> None:
        """Begin waiting for devices."""
        if self.labels:
            await self._fix_labels(self.labels)
        self._feed(events.Started(now_s=self._clock()))

    def stop(self) -> None:
        """Ask the run to pause after what is being committed."""
        self._feed(events.Stop(now_s=self._clock()))

    def dismiss_devices(self, reason: str) -> None:
        """Send every device home; the evaluator stays."""
        for session in self._seats:
            if session.join.role is Role.DEVICE:
                session.send(Goodbye(reason=reason))
                session.close()

    @property
    def classes(self) -> set[str]:
        """Device classes that have joined since this process began."""
        return {profile.device_class for profile in self._seats.profiles.values()}

    async def settle(self) -> None:
        """Wait until everything handed to the worker so far is done; raises what went wrong since the last round."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.in_worker(lambda: None)
        if self._fault is not None:
            raise self._fault

    async def close(self, reason: str) -> None:
        """Say goodbye to everybody and let the worker finish what it is at; nothing begins after that."""
        self._closed = True
        for session in self._seats:
            session.send(Goodbye(reason=reason))
            session.close()
        self._seats.clear()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        if self.over.done() and not self.over.cancelled():
            self.over.exception()  # looked at: nobody may be left who awaits it
        if self.engine is not None:
            for blob_id in self._uploads:
                self.engine.blobs.delete(blob_id)  # sent again after a resume

    async def in_worker(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run CPU or disk work on the engine's thread, after everything handed to it before."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Admit a newcomer or raise, and report, what it must change; the session's outbox begins with the welcome."""
        self._check_open()
        check_name(join.name)
        try:
            return await self._checked_join(join, identity)
        except (CertificateError, JoinRefused) as error:
            self._log.event("refused", device=join.name, message=str(error)[:MAX_REPORT])
            raise

    async def _checked_join(self, join: Join, identity: Identity | None) -> Session:
        check_protocol(join)
        check_identity(join, identity)
        check_model(join, self.description.fingerprint, self.description.max_length)
        if self.engine is None:  # being made, or waiting for the first shard's labels
            await self._fix_labels(self.labels or tuple(sorted(join.labels)))
        check_labels(join, self.labels)
        engine = self._ready()
        if join.profile is not None:
            engine.strategy.admit(join.profile)
        self._check_open()
        session = Session(join)
        number = self._seats.next_number(join)
        session.send(
            Welcome(
                session=session.token,
                labels=self.labels,
                lease_s=self._machine.policy.lease_s,
                keep_set="",
                targets=engine.strategy.spec.targets,
            )
        )
        self._admit(session, number)
        return session

    def leave(self, session: Session) -> None:
        """The stream of `session` has closed."""
        self.desk.leave(session)
        if not self._seats.leave(session):
            return
        self._log.event("left", device=session.name)
        if session.join.role is Role.DEVICE:
            number = self._seats.number(session.name)
            self._feed(events.Left(device=session.name, epoch=number, now_s=self._clock()))

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream; a fenced session's messages no longer count."""
        if not self._seats.holds(session):
            return
        self.sign_of_life(session)
        match message:
            case UpdateSubmission():
                self._spawn(self._take_update(session, message))
            case AssignmentFailure():
                text = message.message[:MAX_REPORT]
                self._log.event("failed", device=session.name, round=message.round, message=text)
                self._feed(events.UpdateRejected(device=session.name, round=message.round, now_s=self._clock()))
            case EvaluatorResult():
                self.desk.result(session, message)
            case Progress() | Heartbeat():
                pass  # signs of life, no more

    def sign_of_life(self, session: Session) -> None:
        """Renew the lease of a session."""
        now_s = self._clock()
        if session.join.role is Role.EVALUATOR:
            self.desk.last_sign_s = now_s
        else:
            self._feed(events.Alive(device=session.name, epoch=self._seats.number(session.name), now_s=now_s))

    def session_of(self, name: str, token: str) -> Session | None:
        """The live session that holds `token`."""
        session = self._seats.find(name)
        return session if session is not None and session.token == token else None

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes `session` may upload now; None where it has nothing to upload."""
        if session.join.role is Role.EVALUATOR:
            return 1 << 40 if self.desk.current is not None else None
        current = self.engine.open if self.engine is not None else None
        if current is None or current.round != round_index or session.name not in current.works:
            return None
        return current.works[session.name].max_upload_bytes

    def uploading(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes when its round closes; what was here before it stays."""
        if new:
            (self._uploads if session.join.role is Role.DEVICE else self.export_uploads).add(blob_id)

    def refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused; the device may send it again while the round is open."""
        self._log.event("rejected", device=session.name, round=round_index, message=str(error))

    # --- the round machine ---

    def _feed(self, event: events.Event) -> None:
        self._machine, orders = step(self._machine, event)
        for order in orders:
            self._obey(order)

    def _obey(self, order: commands.Command) -> None:
        match order:
            case commands.Turn():
                self._spawn(self._turn(order))
            case commands.Push():
                self._push(order)
            case commands.Accept():
                self._accept(order.device, order.round)
            case commands.AckDuplicate():
                self._verdict(order.device, order.round, Verdict.ACCEPTED)
            case commands.RefuseLate():
                self._log.event("late", device=order.device, round=order.round)
                self._verdict(order.device, order.round, Verdict.LATE, f"round {order.round} had closed")
            case commands.RefuseUnknown():
                self._verdict(order.device, order.round, Verdict.UNKNOWN, "no such open assignment")
            case commands.Fence():
                self._fence(order)
            case commands.WakeAt():
                self._wake_at(order.at_s)
            case commands.Pause():
                self._end(RunError(order.reason))
            case commands.Finish():
                self._end("finished")

    def _push(self, order: commands.Push) -> None:
        session, engine = self._seats.find(order.device), self._ready()
        if session is None or engine.open is None or engine.open.round != order.round:
            return
        session.send(engine.open.works[order.device])
        self._log.event("pushed", device=order.device, round=order.round)

    def _fence(self, order: commands.Fence) -> None:
        session = self._seats.find(order.device)
        # An older stream was closed when its successor took the seat.
        if session is not None and self._seats.number(order.device) == order.epoch:
            session.close()

    def _wake_at(self, at_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at_s - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._feed(events.Tick(now_s=self._clock()))

    async def _turn(self, order: commands.Turn) -> None:
        engine = self._ready()
        engine.pinned = self.desk.blobs()
        if order.closed is not None:
            engine.uploaded, self._uploads = self._uploads, set()
        try:
            turned = await self.in_worker(engine.turn, order, dict(self._seats.profiles), self._machine.void_streak)
        except OSError as cause:
            raise RunError(f"cannot write round {self._machine.round}: {cause}; free space, then resume") from cause
        if order.closed is not None:
            for member in order.closed.members:
                session = self._seats.find(member.device)
                if session is not None:
                    session.send(RoundClosed(round=order.closed.round))
            if not order.closed.void and self._rows_per_round:
                self.evaluate(self._rows_per_round)
        now_s = self._clock()
        if order.next_round is None:
            self._feed(events.TurnDone(now_s=now_s))
        else:
            self._feed(events.Planned(round=order.next_round, cohort=tuple(sorted(turned.works)), now_s=now_s))

    def evaluate(self, rows: int) -> None:
        """Queue an evaluation of the current global adapter on `rows` test rows (0: all)."""
        engine = self._ready()
        self.desk.offer(EvaluateTask(adapter=engine.adapter, rows=rows, lora_scale=engine.config.training.lora_scale))

    # --- updates ---

    async def _take_update(self, session: Session, submission: UpdateSubmission) -> None:
        device, number = session.name, submission.round
        try:
            await self.in_worker(self._ready().verify, device, submission)
        except Exception as error:  # whatever a device's bytes do to the decoder, the run goes on without them
            text = str(error) if isinstance(error, FedcoreError) else f"the update cannot be read: {error!r}"
            self._log.event("rejected", device=device, round=number, message=text)
            self._verdict(device, number, Verdict.REJECTED, text)
            self._feed(events.UpdateRejected(device=device, round=number, now_s=self._clock()))
            return
        self._feed(events.UpdateArrived(device=device, round=number, now_s=self._clock()))

    def _accept(self, device: str, number: int) -> None:
        # Not awaited: the worker works in order, so the fold comes before the close of its round.
        folding = self._worker.submit(self._ready().fold, device)
        folding.add_done_callback(lambda done: self._folded(device, number, done))
        self._log.event("accepted", device=device, round=number)
        self._verdict(device, number, Verdict.ACCEPTED)

    def _folded(self, device: str, number: int, done: "Future[None]") -> None:
        if done.cancelled() or (cause := done.exception()) is None:
            return
        # The round's sum may be half changed: what is durable is the last closed round.
        error = RunError(f"counting the update of {device} for round {number} failed ({cause!r}); resume the run")
        self._loop.call_soon_threadsafe(self._end, error)

    def _verdict(self, device: str, number: int, verdict: Verdict, message: str = "") -> None:
        session = self._seats.find(device)
        if session is not None:
            session.send(UpdateVerdict(round=number, verdict=verdict, message=message))

    # --- joining ---

    async def _fix_labels(self, labels: tuple[str, ...]) -> None:
        async with self._engine_lock:
            if self.engine is not None:
                return
            if len(labels) < 2:
                raise JoinRefused(
                    f"the first shard has only the labels {list(labels)}, and the run names none; "
                    'start the coordinator with --set \'data.labels=["a", "b"]\''
                )
            self.engine = await self.in_worker(self._make_engine, labels)
            self.labels = labels
            self.description = dataclasses.replace(self.description, labels=labels)
            if self._rows_per_round and self.engine.adapter.round == 0:
                self.evaluate(self._rows_per_round)

    def _admit(self, session: Session, number: int) -> None:
        join = session.join
        self._seats.take(session, number)
        self._log.joined(join)
        if join.role is Role.EVALUATOR:
            self.desk.seat(session, self._clock())
        else:
            self._feed(events.Joined(device=join.name, epoch=number, now_s=self._clock()))

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("the coordinator is stopping; join again once it is back")

    def _ready(self) -> Engine:
        if self.engine is None:
            raise DataError("the run has no label list yet; join a device with labelled rows, or set [data] labels")
        return self.engine

    # --- ends ---

    def _evaluated(self, kind: TaskKind, result: EvaluatorResult) -> None:
        self._spawn(self._keep(kind, result))

    async def _keep(self, kind: TaskKind, result: EvaluatorResult) -> None:
        await self.in_worker(self._keep_result, kind, result)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    def _end(self, result: str | BaseException) -> None:
        if self.over.done():
            if isinstance(result, BaseException) and self._fault is None:
                self._fault = result
        elif isinstance(result, str):
            self.over.set_result(result)
        else:
            self.over.set_exception(result)
