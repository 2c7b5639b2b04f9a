"""The device's side of a run: feeds its machine (`fedcore.core.rounds.device`) and does what the machine asks for."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fedcore.client.device.downloads import Downloads
from fedcore.client.device.energy import EnergyMeter
from fedcore.client.device.job_runner import JobRunner
from fedcore.client.device.state import SpooledUpdate, StateFolder
from fedcore.client.device.update_maker import LocalUpdate, UpdateMaker
from fedcore.client.device.uploads import Uploads
from fedcore.client.training.trainer import Cancelled, Trainer
from fedcore.client.training.training_state import TrainingState, load_training_state, save_training_state
from fedcore.core.errors import FedcoreError, OutOfMemory, TransportError, UpdateLate
from fedcore.core.rounds.device import commands, events
from fedcore.core.rounds.device.machine import step
from fedcore.core.rounds.device.state import AssignmentId, DeviceState
from fedcore.protos.convert.round import assignment_key
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import (
    AssignmentFailure,
    Progress,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    Welcome,
    WireAssignment,
)
from fedcore.transport.link import Link, Stream
from fedcore.transport.retry import PAUSE_S

MAX_REPORT = 500  # characters of an error that travel to the coordinator


class Timer(Protocol):
    """A call to come, as the event loop's `call_later` returns it."""

    def cancel(self) -> None:
        """Do not call."""


@dataclass(slots=True, kw_only=True)
class Agent:
    """One device's side of a run. `make_trainer` is called once the labels are agreed.

    The machine decides on the event loop; downloads and uploads are tasks on it, torch has one worker thread. A job
    returns the event that tells the machine how it ended.
    """

    name: str
    link: Link
    state: StateFolder
    make_trainer: Callable[[Welcome], Trainer]
    num_examples: int
    memory_mb: float
    say: Callable[[str], None]
    clock: Callable[[], float] = time.perf_counter
    call_later: Callable[[float, Callable[[], None]], Timer] | None = None  # None: the event loop's
    retry_s: float = PAUSE_S  # between tries of a broken transfer
    energy: EnergyMeter = field(default_factory=EnergyMeter)
    machine: DeviceState = field(default_factory=DeviceState)
    _trainer: Trainer | None = None
    _maker: UpdateMaker | None = None
    _training: TrainingState = field(default_factory=TrainingState)  # as committed
    _welcome: Welcome | None = None  # of the newest session
    _stream: Stream | None = None  # of the newest session
    _assignment: WireAssignment | None = None  # pushed last: a job that begins or goes on answers it
    _new_update: LocalUpdate | None = None  # of the job, which has not reported it yet
    _uncommitted_update: LocalUpdate | None = None  # awaits its verdict
    _timer: Timer | None = None
    _sends: set[asyncio.Task[None]] = field(default_factory=set)
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="torch"))
    _job: JobRunner[events.Ending] = field(init=False)
    _do: Mapping[type[commands.Command], Callable[[Any], None]] = field(init=False)

    def __post_init__(self) -> None:
        self._job = JobRunner(report=self.feed)
        self._do = {
            commands.StartWork: self._start_work,
            commands.Deliver: self._start_delivery,
            commands.StopJob: self._stop_job,
            commands.Commit: self._commit,
            commands.CommitSpooled: self._commit_spooled,
            commands.RollBack: self._roll_back,
            commands.ClearSpool: self._clear_spool,
            commands.ReportFailure: self._report_failure,
            commands.WakeAt: self._wake_at,
            commands.Say: lambda command: self.say(command.text),
        }

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """Begin a session; in the first one the model is loaded while the first assignment is awaited."""
        self._welcome, self._stream = welcome, stream
        if self._trainer is None:
            self._load(self.make_trainer(welcome))
            self.say(f"joined; labels {', '.join(welcome.labels)}" if welcome.labels else "joined")
        self.feed(events.Welcomed(parent=self.machine.parent + 1, now_s=self.clock()))

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """React to one message of a parent."""
        match message:
            case WireAssignment():
                self._assignment = message
                pushed = events.AssignmentPushed(
                    key=assignment_key(message),
                    round=message.round,
                    parent=self.machine.parent if stream is self._stream else 0,
                    deadline_s=message.deadline_s,
                    now_s=self.clock(),
                )
                self.feed(pushed)
            case UpdateVerdict(round=number, verdict=verdict):
                reason = f"{verdict}: {message.message}"
                accepted = verdict is Verdict.ACCEPTED
                self.feed(events.VerdictArrived(round=number, accepted=accepted, reason=reason))
            case RoundClosed(round=number):
                self.feed(events.RoundClosed(round=number))

    def session_lost(self) -> None:
        """Note that the session has ended; the next welcome begins another one."""
        self.feed(events.SessionLost())

    async def close(self) -> None:
        """Stop what is being worked on, and wait until it has stopped."""
        self.feed(events.Stop())
        if self._timer is not None:
            self._timer.cancel()
        await self._job.wait_for_stop()
        for send in self._sends:
            send.cancel()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def feed(self, event: events.Event) -> None:
        """Tell the machine what happened, and do what it asks for."""
        if isinstance(event, events.WorkFinished):
            self._uncommitted_update, self._new_update = self._new_update, None
        self.machine, orders = step(self.machine, event)
        for order in orders:
            self._do[type(order)](order)

    def _load(self, trainer: Trainer) -> None:
        """Take up where an earlier process of this device was, and have the model loaded."""
        self._trainer, self._training = trainer, load_training_state(self.state.training_state)
        blobs, spooled = self.state.blobs, self.state.spooled_update()
        if spooled is not None:
            answered = AssignmentId(key=spooled.key, round=spooled.submission.round)
            self.machine = replace(self.machine, spool=answered)
        self._maker = UpdateMaker(
            downloads=Downloads(link=self.link, blobs=blobs, say=self.say, retry_s=self.retry_s, current=blobs.names()),
            residuals=self.state.residuals,
            worker=self._worker,
            num_examples=self.num_examples,
            memory_mb=self.memory_mb,
            say=self.say,
            clock=self.clock,
            energy=self.energy,
        )
        warm = asyncio.get_running_loop().run_in_executor(self._worker, trainer.prepare)
        warm.add_done_callback(lambda done: done.exception())  # the first assignment meets the same error

    # --- the job ---

    def _start_work(self, command: commands.StartWork) -> None:
        self._job.start(self._outcome(command.key, self._work(command.key)))

    def _start_delivery(self, command: commands.Deliver) -> None:
        self._job.start(self._outcome(command.key, self._delivery(command.key)))

    async def _outcome(self, key: str, job: Coroutine[Any, Any, events.Ending]) -> events.Ending:
        try:
            return await job
        except TransportError as error:
            return events.TransferBroke(key=key, message=str(error))
        except UpdateLate as error:
            return events.DeliveryRefused(key=key, message=str(error))
        except Cancelled:
            return events.JobStopped(key=key)
        except OutOfMemory as error:
            return events.WorkFailed(key=key, message=str(error), out_of_memory=True)
        except FedcoreError as error:
            return events.WorkFailed(key=key, message=str(error))
        except Exception as error:  # a full disk, a driver's fault: this round is lost, the device is not
            if self._welcome is not None:  # the model may have been left half pruned
                self._trainer = self.make_trainer(self._welcome)
            return events.WorkFailed(key=key, message=f"{type(error).__name__}: {error}")

    def _stop_job(self, command: commands.StopJob) -> None:
        if self._trainer is not None:
            self._trainer.cancel.set()
        self._job.stop(release=self._free_thread, stopped=events.JobStopped(key=command.key))

    async def _free_thread(self) -> None:
        """Return once the worker thread has left the training that was cancelled."""
        if self._trainer is not None:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._trainer.cancel.clear)

    # --- making and sending an update ---

    async def _work(self, key: str) -> events.Ending:
        assignment, trainer, maker = self._assignment, self._trainer, self._maker
        if assignment is None or trainer is None or maker is None:
            raise TransportError("an assignment came before the welcome")
        self.state.residuals.settle(assignment.counted_round)
        loop = asyncio.get_running_loop()

        def on_step(number: int) -> None:
            progress = Progress(round=assignment.round, step=number, steps=assignment.local_steps)
            # Progress that does not arrive is no loss: the future is dropped, and its exception with it.
            asyncio.run_coroutine_threadsafe(self._send(progress), loop)

        self._new_update = await maker.make(assignment, trainer, self._training, on_step)
        self.state.spool(SpooledUpdate(key=key, submission=self._new_update.submission), self._new_update.keep_set)
        return events.WorkFinished(key=key)

    async def _delivery(self, key: str) -> events.Ending:
        assignment, spooled = self._assignment, self.state.spooled_update()
        if assignment is None or spooled is None:
            return events.SpoolDamaged(key=key)
        begin = self.clock()
        uploads = Uploads(
            name=self.name, link=self.link, blobs=self.state.blobs, session=self._session, retry_s=self.retry_s
        )
        submission, sent = await uploads.send(spooled.submission)
        phases = {**submission.report.phase_s, "upload": self.clock() - begin}
        repushed = self.machine.job is not None and self.machine.job.repushed
        report = replace(submission.report, phase_s=phases, bytes_up=sent, repushed=repushed)
        self._session()
        await self._send(replace(submission, report=report))
        arm, metrics = assignment.arm, report.metrics
        self.say(
            f"round {assignment.round}: sparsity {arm.sparsity:.2f}, rank {arm.rank}, "
            f"loss {metrics.loss_before:.3f} -> {metrics.loss_after:.3f}, {phases['train']:.1f} s, {sent} bytes up"
        )
        return events.Delivered(key=key)

    def _session(self) -> str:
        """Return the session that a transfer may belong to; raises TransportError where there is none."""
        if self._welcome is None or not self.machine.may_send:
            raise TransportError("the parent has changed, and the new one has yet to push this work")
        return self._welcome.session

    async def _send(self, value: Progress | UpdateSubmission | AssignmentFailure) -> None:
        if self._stream is not None:
            await self._stream.send(value)

    # --- the other commands ---

    def _commit(self, command: commands.Commit) -> None:
        update, self._uncommitted_update = self._uncommitted_update, None
        if update is not None:
            self._training = update.training
            self.state.commit_keep_set(update.keep_set)
            save_training_state(self.state.training_state, self._training)

    def _commit_spooled(self, command: commands.CommitSpooled) -> None:
        keep_set = self.state.spooled_keep_set()
        if keep_set is not None:
            self.state.commit_keep_set(keep_set)

    def _roll_back(self, command: commands.RollBack) -> None:
        self._uncommitted_update = None

    def _clear_spool(self, command: commands.ClearSpool) -> None:
        try:
            self.state.clear_spool()
        except OSError as error:  # the next update meets the same disk, and its round is reported as failed
            self.say(f"the spooled update cannot be deleted: {error}")

    def _report_failure(self, command: commands.ReportFailure) -> None:
        failure = AssignmentFailure(
            round=command.round, message=command.message[:MAX_REPORT], out_of_memory=command.out_of_memory
        )
        send = asyncio.create_task(self._report(failure))
        self._sends.add(send)
        send.add_done_callback(self._sends.discard)

    async def _report(self, failure: AssignmentFailure) -> None:
        with contextlib.suppress(FedcoreError):  # without it, the lease or the deadline says as much
            await self._send(failure)

    def _wake_at(self, command: commands.WakeAt) -> None:
        if self._timer is not None:
            self._timer.cancel()
        call_later = self.call_later or asyncio.get_running_loop().call_later
        self._timer = call_later(max(0.0, command.at_s - self.clock()), self._wake)

    def _wake(self) -> None:
        self.feed(events.Tick(now_s=self.clock()))
