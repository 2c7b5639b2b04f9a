"""Rounds inside a Flower ServerApp: the round machine and the engine of a coordinator, driven by the caller.

It has no event loop, no thread and no timer: time passes when the caller says so. The run folder is that of a
coordinator.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field, replace

from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Metrics
from fedcore.core.errors import FedcoreError, JoinRefused, RunError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import step
from fedcore.core.rounds.shell import RoundShell, in_order, nothing, together
from fedcore.core.rounds.state import Phase, RoundState
from fedcore.core.tasks.table import task_of
from fedcore.protos.values import (
    AssignmentFailure,
    BlobRef,
    EvaluateTask,
    EvaluatorResult,
    Join,
    RunDescription,
    UpdateSubmission,
    Welcome,
    WireAssignment,
)
from fedcore.protos.wire import INLINE_BYTES
from fedcore.server.aggregate.assemble import make_engine
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.members.admission import check_labels, check_model, check_protocol
from fedcore.server.rounds.evaluator_tasks import class_task, dense_task, round_task
from fedcore.server.run.run import Run
from fedcore.storage.blobs.name import blob_name

MAX_REPORT = 500  # characters of a device's message in an event


@dataclass(slots=True, kw_only=True)
class FlowerDriver:
    """Rounds of one run in an app; `close` unlocks its folder. `clock` is monotonic."""

    run: Run
    state: InitVar[RoundState]
    description: RunDescription
    clock: Callable[[], float] = time.monotonic
    engine: Engine | None = None
    profiles: dict[str, DeviceProfile] = field(default_factory=dict)
    pushed: dict[str, WireAssignment] = field(default_factory=dict)  # assignments to send, by device
    fault: RunError | None = None  # why the run paused
    _uploads: set[str] = field(default_factory=set)  # blobs that devices sent since the last turn
    _epochs: dict[str, int] = field(default_factory=dict)
    _away: set[str] = field(default_factory=set)  # lost devices that are not back yet
    _ahead_s: float = 0.0  # of the machine's time before `clock`: rounds may close before their deadline
    _shell: RoundShell[RoundState, events.Event, commands.Command] = field(init=False)

    def __post_init__(self, state: RoundState) -> None:
        """Bind every command to its method: Flower watches streams and time, and devices get no answers."""
        self._shell = RoundShell(
            state,
            step,
            commands=commands.Command,
            table=(
                in_order(commands.Accept, self._accept),
                in_order(commands.AckDuplicate, self._ack_duplicate),
                in_order(commands.RefuseLate, self._refuse_late),
                in_order(commands.Pause, self._pause),
                together(commands.Push, self._push),
                # Last: all other commands of a step belong to the round that its turn closes.
                together(commands.Turn, self._turn),
                # no answers
                nothing(commands.RefuseUnknown),
                # no edges
                nothing(commands.AcceptPartial),
                nothing(commands.RefuseOverlap),
                nothing(commands.RefusePartial),
                # no streams, and no timers: time passes in `tick` and `expire`
                nothing(commands.Fence),
                nothing(commands.WakeAt),
                # `over` shows the end
                nothing(commands.Finish),
            ),
        )

    @staticmethod
    def open(run: Run) -> "FlowerDriver":
        """Begin the rounds of a run, or go on with them."""
        run.open_log()
        driver = FlowerDriver(
            run=run,
            state=run.round_state(lease_s=_patience(run.config)),
            description=replace(run.describe(), model_files=()),  # an app has its model already
        )
        if driver.description.labels or not task_of(run.config).labelled:
            driver.agree(driver.description.labels)
        driver.feed(events.Started(now_s=driver.now_s))
        return driver

    @property
    def machine(self) -> RoundState:
        """State of the round machine."""
        return self._shell.state

    @property
    def now_s(self) -> float:
        """The machine's time."""
        return self.clock() + self._ahead_s

    @property
    def over(self) -> bool:
        """Whether every round is closed."""
        return self.machine.phase is Phase.DONE

    @property
    def left_s(self) -> float:
        """Seconds until the open round's deadline."""
        return max(0.0, self.machine.deadline_at_s - self.now_s)

    def skip_time(self) -> None:
        """Leave out the time since the last event: a planned round begins when its assignments are sent."""
        self._ahead_s += self.machine.now_s - self.now_s

    # --- devices ---

    def agree(self, labels: Sequence[str]) -> None:
        """Fix the label list unless it is fixed already; raises JoinRefused for fewer than two labels."""
        if self.engine is not None:
            return
        if len(labels) < 2 and task_of(self.run.config).labelled:
            raise JoinRefused(f"the rows carry only the labels {list(labels)}; name all of them in data.labels")
        self._begin(labels)

    def join(self, join: Join) -> None:
        """Admit a device, new or back; logs a refusal and raises JoinRefused or ConfigError."""
        try:
            self._check(join)
        except FedcoreError as error:
            self.run.log.event("refused", device=join.name, message=str(error)[:MAX_REPORT])
            raise
        if join.profile is not None:
            self.profiles[join.name] = join.profile
        self.run.log.joined(join)
        self._begin_session(join.name)

    def alive(self, device: str) -> None:
        """Renew the lease of a device that Flower lists, or admit it again."""
        if device in self._away:
            self._begin_session(device)
        else:
            self.feed(events.Alive(device=device, epoch=self._epochs[device], now_s=self.now_s))

    def lost(self, device: str, reason: str) -> None:
        """Note that a device is gone; for the open round this says nothing about its arm."""
        self.run.log.event("left", device=device, role="device", reason=reason[:MAX_REPORT])
        self.pushed.pop(device, None)
        self._away.add(device)
        self.feed(events.Left(device=device, epoch=self._epochs[device], now_s=self.now_s, lost=True))

    def welcome(self) -> Welcome:
        """Return the welcome that every device gets with its assignment."""
        engine = self._ready()
        return Welcome(
            session="",
            labels=engine.labels,
            lease_s=self.run.config.coordinator.lease_s,
            keep_set="",
            targets=engine.strategy.spec.targets,
        )

    # --- answers ---

    def store(self, data: bytes, name: str) -> BlobRef:
        """Return a reference to a device's bytes: a few are inside it, more are spooled until the round closes."""
        if len(data) <= INLINE_BYTES:
            return BlobRef(id=blob_name(data), size=len(data), name=name, inline=data)
        ref = BlobRef(id=blob_name(data), size=len(data), name=name)
        if not self.run.blobs.has(ref.id):
            self._uploads.add(self.run.blobs.put_bytes(data))
        return ref

    def take(self, device: str, submission: UpdateSubmission) -> None:
        """Verify an update and count it, or refuse it with the reason."""
        number = submission.round
        try:
            self._ready().with_sum(RoundSum.verify, device, submission)
        except FedcoreError as error:
            self.reject(device, number, str(error))
            return
        except Exception as error:  # whatever a device's bytes do to the decoder, the run goes on without the update
            self.reject(device, number, f"the update cannot be read: {error!r}")
            return
        self.feed(events.UpdateArrived(device=device, round=number, now_s=self.now_s))

    def failed(self, device: str, failure: AssignmentFailure) -> None:
        """Note that a device could not carry out its assignment."""
        why = {"out_of_memory": True} if failure.out_of_memory else {}
        self.run.log.event("failed", device=device, round=failure.round, message=failure.message[:MAX_REPORT], **why)
        self.feed(
            events.UpdateRefused(
                device=device, round=failure.round, now_s=self.now_s, out_of_memory=failure.out_of_memory
            )
        )

    def reject(self, device: str, number: int, reason: str) -> None:
        """Note that a device's update for round `number` does not fit."""
        self.run.log.event("rejected", device=device, round=number, message=reason)
        self.feed(events.UpdateRefused(device=device, round=number, now_s=self.now_s))

    def tick(self) -> None:
        """Let the deadline pass if its time has come."""
        self.feed(events.Tick(now_s=self.now_s))

    def expire(self, number: int) -> None:
        """Close round `number` now, if it is open: devices without an answer have missed it."""
        if self.machine.phase is Phase.OPEN and self.machine.round == number:
            self._ahead_s += self.left_s
            self.tick()

    def evaluations(self) -> list[EvaluateTask]:
        """Return what is measured now: the model of a round, as an evaluator would be asked; at the end, every one."""
        engine = self._ready()
        classes = self.run.classes(profile.device_class for profile in self.profiles.values())
        if self.over:
            return [dense_task(engine, 0, floors=False), *(class_task(engine, name, 0) for name in classes)]
        return [round_task(engine, classes, self.run.config.evaluation.rows_per_round)]

    def keep_set(self, kind: EvaluateTask) -> KeepSet | None:
        """Return what the measured model keeps; None for the dense one."""
        return None if kind.keep_set is None else KeepSet.from_bytes(self.run.blobs.read_bytes(kind.keep_set.id))

    def log_metrics(self, kind: EvaluateTask, metrics: Metrics) -> None:
        """Store what was measured of the current global adapter."""
        kept = "" if kind.keep_set is None else kind.keep_set.id
        self.run.log.evaluated(kind, EvaluatorResult(id=0, outcome=metrics, keep_set=kept))

    def finish(self) -> Json:
        """Write the summary and the adapter for peft, and return the summary."""
        engine = self._ready()
        return self.run.finish(engine.strategy, engine.state, engine.model.tensors)

    def close(self) -> None:
        """Close the files of the run and unlock its folder."""
        self.run.close()

    # --- the machine ---

    def feed(self, event: events.Event) -> None:
        """Feed the machine an event and carry out its commands."""
        self._shell.feed(event)

    def _accept(self, order: commands.Accept) -> None:
        self._ready().with_sum(RoundSum.fold, order.device)
        self.run.log.event("accepted", device=order.device, round=order.round)

    def _ack_duplicate(self, order: commands.AckDuplicate) -> None:
        self.run.log.event("duplicate", device=order.device, round=order.round)

    def _refuse_late(self, order: commands.RefuseLate) -> None:
        self.run.log.event("late", device=order.device, round=order.round)

    def _pause(self, order: commands.Pause) -> None:
        self.fault = RunError(order.reason)

    def _push(self, pushes: Sequence[commands.Push]) -> None:
        current = self._ready().open
        for order in pushes:
            if current is not None and current.round == order.round:
                self.pushed[order.device] = current.wire_assignments[order.device]
                self.run.log.event("pushed", device=order.device, round=order.round)

    def _turn(self, orders: Sequence[commands.Turn]) -> None:
        for order in orders:
            self.pushed.clear()
            if order.closed is not None:
                self._ready().uploaded_blobs, self._uploads = self._uploads, set()
            turned = self._ready().turn(order, dict(self.profiles), self.machine.void_streak)
            if order.next_round is None:
                self.feed(events.TurnDone(now_s=self.now_s))
            else:
                self.feed(
                    events.Planned(round=order.next_round, cohort=tuple(sorted(turned.assignments)), now_s=self.now_s)
                )

    def _begin_session(self, device: str) -> None:
        self._away.discard(device)
        self._epochs[device] = self._epochs.get(device, 0) + 1
        self.feed(events.Joined(device=device, epoch=self._epochs[device], now_s=self.now_s))

    def _check(self, join: Join) -> None:
        check_protocol(join)
        check_model(join, self.description.fingerprint, self.description.max_length)
        check_labels(join, self.description.labels)
        if join.profile is not None:
            self._ready().strategy.admit(join.profile)

    def _begin(self, labels: Sequence[str]) -> None:
        self.description = replace(self.description, labels=tuple(labels))
        self.engine = make_engine(self.run, tuple(labels))

    def _ready(self) -> Engine:
        if self.engine is None:
            raise RunError("no device has joined yet; ask nodes to join first")
        return self.engine


def _patience(config: Config) -> float:
    """Seconds of a lease longer than any round: Flower watches its nodes itself and reports those that are gone."""
    return 2.0 * config.coordinator.round_deadline_s + config.coordinator.join_deadline_s
