"""The coordinator's event loop, between members, round machine and engine.

Everything here runs on one asyncio loop and only passes things on. The engine does arithmetic and disk work; the round
machine and the strategy decide.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import DataError, FedcoreError
from fedcore.core.rounds import events
from fedcore.core.rounds.state import RoundState
from fedcore.protos.tier_values import AnyUpward, PartialSubmission
from fedcore.protos.values import (
    AssignmentFailure,
    EvaluatorResult,
    Join,
    Newcomer,
    Role,
    RunDescription,
    TaskKind,
    UpdateSubmission,
    Welcome,
)
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.partials import partial_bound
from fedcore.server.members.admission import Admission
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.membership import Membership
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import AnySession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.evaluator_queue import EvaluatorQueue
from fedcore.server.rounds.evaluator_tasks import UNKNOWN, dense_task, fleet_labels, round_task
from fedcore.server.rounds.round_driver import MAX_REPORT, RoundDriver
from fedcore.server.run.run_log import RunLog
from fedcore.server.run.shards import Shards
from fedcore.storage.pki.revocation import RevocationList


class Coordinator:
    """One run. `make_engine(labels)` is called once the label list is known."""

    def __init__(
        self,
        *,
        description: RunDescription,
        machine: RoundState,
        make_engine: Callable[[tuple[str, ...]], Engine],
        log: RunLog,
        shards: Shards,
        rows_per_round: int,
        classes: Iterable[str] = (),
        keep_result: Callable[[TaskKind, EvaluatorResult], None],
        revocations: RevocationWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing runs before `start`. `classes`: of the configuration, joined or not."""
        self.evaluators = EvaluatorQueue(on_result=self._evaluated)
        self.engine: Engine | None = None  # None until the labels are known
        self.export_uploads: set[str] = set()  # blobs that the evaluator began to send
        self._make_engine = make_engine
        self._log = log
        self._shards = shards
        self._rows_per_round = rows_per_round
        self._classes = set(classes)
        self.fleet_labels = UNKNOWN  # of the devices that have joined; kept for the end, when they have gone
        self._keep_result = keep_result
        self._clock = clock
        self._tasks = Tasks()
        self._admission = Admission(description, on_labels=self._begin_engine, check_profile=self._check_profile)
        self.membership = Membership(self._hooks(), revocations)
        self._driver = RoundDriver(
            state=machine,
            sessions=self.membership.sessions,
            edges=self.membership.edges,
            evaluators=self.evaluators,
            tasks=self._tasks,
            log=log,
            clock=clock,
            ready=self._ready,
            on_closed=self._evaluate_round,
        )

    @property
    def over(self) -> "asyncio.Future[str]":
        """Ends with the run: with its closing word, or with the error that ended it."""
        return self._tasks.over

    @property
    def labels(self) -> tuple[str, ...]:
        """The agreed label list; empty until the first shard fixes it."""
        return self._admission.description.labels

    async def start(self) -> None:
        """Begin to wait for devices."""
        if self._admission.needs_no_device:
            await self._admission.fix_labels(self.labels)
        self.membership.guard.begin(self._tasks, self._lease_s)
        self._driver.feed(events.Started(now_s=self._clock()))

    def stop(self) -> None:
        """Ask the run to pause after the commit under way."""
        self._driver.feed(events.Stop(now_s=self._clock()))

    def dismiss_devices(self, reason: str) -> None:
        """Send all devices and edges home; the evaluator stays."""
        self.membership.send_away(reason, roles=(Role.DEVICE, Role.EDGE))

    @property
    def classes(self) -> set[str]:
        """Device classes that have joined since this process began."""
        return {profile.device_class for profile in self.membership.sessions.profiles.values()}

    async def settle(self) -> None:
        """Wait until all tasks so far are done; raises the first error since the run ended."""
        await self._tasks.settle()

    async def close(self, reason: str | None) -> None:
        """Say goodbye to all members and let the worker finish its current call; nothing begins after that.

        Without a reason, streams just close, and members try to come back.
        """
        self.membership.close(reason, refusal="the coordinator is stopping; join again once it is back")
        self._driver.close()
        await self._tasks.close()
        if self.engine is not None:
            for blob_id in self._driver.uploads:
                self.engine.blobs.delete(blob_id)  # devices send them again after a resume

    def _ready(self) -> Engine:
        """Return the engine; raises DataError before the labels are known."""
        if self.engine is None:
            raise DataError("the run has no label list yet; join a device with labelled rows, or set [data] labels")
        return self.engine

    @property
    def _lease_s(self) -> float:
        return self._driver.machine.policy.lease_s

    # --- members ---

    def _hooks(self) -> MembershipHooks:
        return MembershipHooks(
            describe=self._describe,
            admit=self._admit,
            arrived=self._arrived,
            departed=self._departed,
            alive=self._alive,
            message=self._receive,
            evicted=self._evicted,
            revocations_refused=lambda message: self._log.event("revocations_refused", message=message),
            revocations_changed=self._revocations_changed,
            refused=self._refused,
            spawn=self._tasks.spawn,
        )

    async def _describe(self, newcomer: Newcomer) -> tuple[RunDescription, dict[str, int]]:
        shard = await self._tasks.in_worker(self._shards.of, newcomer) if newcomer.wants_shard else None
        description = dataclasses.replace(self._admission.description, shard=shard)
        needs: dict[str, int] = {}
        if newcomer.needs_model:
            needs |= {ref.id: ref.size for ref in description.model_files}
        if self.engine is not None:
            adapter = self.engine.model.adapter
            needs |= {ref.id: ref.size for ref in (adapter.head, *adapter.rank_blocks) if not ref.inline}
        return description, needs

    async def _admit(self, join: Join) -> Welcome:
        await self._admission.check(join)
        return Welcome(
            session="",
            labels=self.labels,
            lease_s=self._lease_s,
            keep_set="",
            targets=() if join.role is Role.EDGE else self._ready().strategy.spec.targets,
            answers_beats=True,
        )

    async def _begin_engine(self, labels: tuple[str, ...]) -> None:
        self.engine = await self._tasks.in_worker(self._make_engine, labels)
        if self.engine.model.adapter.round == 0:
            await self._evaluate_round()

    def _check_profile(self, profile: DeviceProfile) -> None:
        self._ready().strategy.admit(profile)

    def _refused(self, name: str, error: FedcoreError) -> None:
        self._log.event("refused", device=name, message=str(error)[:MAX_REPORT])

    def _arrived(self, session: AnySession) -> None:
        join = session.join
        self._log.joined(join, via="" if session.stream is session else session.stream.name)
        if join.role is Role.DEVICE:
            number = self.membership.sessions.number(join.name)
            self._driver.feed(events.Joined(device=join.name, epoch=number, now_s=self._clock()))
        elif join.role is Role.EVALUATOR:
            if not self.evaluators.expected:
                self._tasks.spawn(self._tasks.in_worker(self._log.evaluator_came))
            self.evaluators.connect(session.stream, self._clock())

    def _departed(self, session: AnySession, departure: Departure) -> None:
        """Note a departure, unless a newer session replaced it: that session's arrival follows at once."""
        if departure.cause is Cause.REPLACED:
            return
        role, name = session.join.role, session.name
        self._log.event("left", device=name, role=str(role))
        if role is Role.DEVICE:
            number = self.membership.sessions.number(name)
            self._driver.feed(events.Left(device=name, epoch=number, now_s=self._clock(), lost=departure.lost))
        elif role is Role.EVALUATOR:
            self.evaluators.disconnect(session.stream)

    def _alive(self, session: Session) -> None:
        """Renew leases; an edge's sign of life counts for all devices below it, because the edge watches them."""
        now_s = self._clock()
        if session.join.role is Role.EVALUATOR:
            self.evaluators.last_sign_s = now_s
            return
        devices: Iterable[AnySession] = (session,)
        if session.join.role is Role.EDGE:
            devices = self.membership.edges.devices_below(session)
        for device in devices:
            number = self.membership.sessions.number(device.name)
            self._driver.feed(events.Alive(device=device.name, epoch=number, now_s=now_s))

    def _receive(self, session: Session, message: AnyUpward) -> None:
        if session.join.role is Role.EDGE:
            if isinstance(message, PartialSubmission):
                self._driver.take_partial(session, message)
            return
        match message:
            case UpdateSubmission():
                self._driver.take_update(session.name, message)
            case AssignmentFailure():
                self._driver.failed(session.name, message)
            case EvaluatorResult():
                self.evaluators.take_result(session, message)

    def _evicted(self, session: AnySession) -> None:
        source = {"serial": session.serial} if isinstance(session, Session) else {"via": session.stream.name}
        self._log.event("revoked", device=session.name, role=str(session.join.role), **source)

    def _revocations_changed(self, current: RevocationList) -> None:
        self._log.event("revocations", number=current.number, certificates=len(current.revoked))

    # --- uploads ---

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Return the most bytes that `session` may upload now; None if it has nothing to upload."""
        if session.join.role is Role.EVALUATOR:
            return 1 << 40 if self.evaluators.current is not None else None
        current = self.engine.open if self.engine is not None else None
        if current is None or current.round != round_index:
            return None
        if session.join.role is Role.EDGE:
            # A device may have left the edge and still be in its partial.
            return partial_bound(current.sum.terms, len(current.wire_assignments))
        assignment = current.wire_assignments.get(session.name)
        return None if assignment is None else assignment.max_upload_bytes

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, to delete it when its round closes; a blob that was here before stays."""
        if new:
            (self.export_uploads if session.join.role is Role.EVALUATOR else self._driver.uploads).add(blob_id)

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused; the device may send it again while the round is open."""
        self._log.event("rejected", device=session.name, round=round_index, message=str(error))

    async def ensure_blob(self, blob_id: str) -> None:
        """Return at once: every blob that a member may fetch is here."""

    # --- evaluation ---

    def evaluate_all(self) -> None:
        """Queue an evaluation of the current global adapter on the dense model and all test rows, with their floors."""
        self.evaluators.add(dense_task(self._ready(), 0, floors=True, majority=self.fleet_labels.majority))

    async def _evaluate_round(self) -> None:
        engine = self._ready()
        profiles = self.membership.sessions.profiles
        found = fleet_labels(profiles.values(), engine.labels, engine.config.training.label_skew)
        self.fleet_labels = found if found.majority else self.fleet_labels
        if self._rows_per_round:
            classes, rows = [*self._classes | self.classes], self._rows_per_round
            self.evaluators.add(await self._tasks.in_worker(round_task, engine, classes, rows, self.fleet_labels))

    def _evaluated(self, kind: TaskKind, result: EvaluatorResult) -> None:
        self._tasks.spawn(self._tasks.in_worker(self._keep_result, kind, result))
