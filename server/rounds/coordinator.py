"""The coordinator's event loop: sessions in front, the round machine in the middle, the engine behind.

Everything here runs on one asyncio loop and only hands things on; arithmetic and disk are the engine's, decisions
are the round machine's and the strategy's.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from fedcore.core.contract.profile import check_name
from fedcore.core.errors import CertificateError, FedcoreError, JoinRefused, TransportError
from fedcore.core.rounds import events
from fedcore.core.rounds.state import RoundState
from fedcore.protos.tier_values import AnyUpward, Holding, LeafJoin, LeafLeft, LeafRefused, PartialSubmission
from fedcore.protos.values import (
    AssignmentFailure,
    EvaluateTask,
    EvaluatorResult,
    Goodbye,
    Heartbeat,
    Join,
    Newcomer,
    Progress,
    Role,
    RunDescription,
    Shard,
    TaskKind,
    UpdateSubmission,
    Welcome,
)
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.partials import part_bound
from fedcore.server.members.admission import check_device
from fedcore.server.members.edge_registry import EdgeRegistry, session_of
from fedcore.server.members.parent_offer import rank_parents
from fedcore.server.members.revocation_guard import RevocationGuard
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import AnySession, RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.server.rounds.evaluator_queue import EvaluatorQueue
from fedcore.server.rounds.reception import Reception
from fedcore.server.rounds.round_driver import MAX_REPORT, RoundDriver
from fedcore.server.run.run_log import RunLog
from fedcore.server.run.shards import Shards
from fedcore.storage.pki.certificates import Identity

T = TypeVar("T")


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
        keep_result: Callable[[TaskKind, EvaluatorResult], None],
        revocations: RevocationWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing runs before `start`."""
        self.desk = EvaluatorQueue(on_result=self._evaluated)
        self.export_uploads: set[str] = set()  # blobs the evaluator began to send
        self._log = log
        self._shards = shards
        self._rows_per_round = rows_per_round
        self._keep_result = keep_result
        self._clock = clock
        self._tasks = Tasks()
        self._reception = Reception(
            description, lambda labels: self.in_worker(make_engine, labels), self._evaluate_untrained
        )
        self._seats = SessionRegistry()
        self._edges = EdgeRegistry()
        self._driver = RoundDriver(
            machine=machine,
            seats=self._seats,
            edges=self._edges,
            desk=self.desk,
            tasks=self._tasks,
            log=log,
            clock=clock,
            ready=self._reception.ready,
            on_closed=self._evaluate_round,
        )
        self._guard = RevocationGuard(
            revocations or RevocationWatch(),
            sessions=self._streams,
            expel=self._expel,
            changed=self._tell_revocations,
            refused=lambda message: self._log.event("revocations_refused", message=message),
        )
        self._closed = False

    @property
    def over(self) -> "asyncio.Future[str]":
        """Ends with the run: its closing word, or what went wrong."""
        return self._tasks.over

    @property
    def engine(self) -> Engine | None:
        """The engine, once the labels are known."""
        return self._reception.engine

    @property
    def labels(self) -> tuple[str, ...]:
        """The agreed label list; empty until the first shard fixes it."""
        return self._reception.labels

    async def start(self) -> None:
        """Begin waiting for devices."""
        if self.labels:
            await self._reception.fix_labels(self.labels)
        self._guard.begin(self._tasks, self._driver.machine.policy.lease_s)
        self._driver.feed(events.Started(now_s=self._clock()))

    def stop(self) -> None:
        """Ask the run to pause after what is being committed."""
        self._driver.feed(events.Stop(now_s=self._clock()))

    def dismiss_devices(self, reason: str) -> None:
        """Send every device home, and every edge after its devices; the evaluator stays."""
        for session in self._seats:
            if session.join.role is Role.DEVICE and isinstance(session, Session):
                session.send(Goodbye(reason=reason))
                session.close()
        for edge in self._edges:  # it says goodbye to the devices below it
            edge.send(Goodbye(reason=reason))
            edge.close()

    @property
    def classes(self) -> set[str]:
        """Device classes that have joined since this process began."""
        return {profile.device_class for profile in self._seats.profiles.values()}

    async def settle(self) -> None:
        """Wait until everything begun so far is done; raises what went wrong since the last round."""
        await self._tasks.settle()

    async def close(self, reason: str | None) -> None:
        """Say goodbye to everybody and let the worker finish what it is at; nothing begins after that.

        Without a reason nobody is sent home: streams just close, and members come back for as long as they are told to.
        """
        self._closed = True
        for session in {each.stream for each in self._seats} | set(self._edges):
            if reason is not None:
                session.send(Goodbye(reason=reason))
            session.close()
        self._seats.clear()
        self._guard.close()
        self._driver.close()
        await self._tasks.close()
        if self.engine is not None:
            for blob_id in self._driver.uploads:
                self.engine.blobs.delete(blob_id)  # sent again after a resume

    async def in_worker(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run CPU or disk work on the engine's thread, after everything handed to it before."""
        return await self._tasks.in_worker(work, *arguments)

    # --- joining ---

    async def describe(self, newcomer: Newcomer, identity: Identity | None) -> RunDescription:
        """What a newcomer must know, the edges it had best join, and the shard it asks for."""
        shard = await self._shard(newcomer, identity) if newcomer.wants_shard else None
        parents = rank_parents(self._needs(newcomer), self._edges.parents())
        return dataclasses.replace(self._reception.description, parents=parents, shard=shard)

    async def _shard(self, newcomer: Newcomer, identity: Identity | None) -> Shard:
        """The shard of a device, which an edge may ask for: that has checked the certificate."""
        if identity is None or identity.kind != "edge":
            check_device(newcomer.name, newcomer.device_class, identity)
        try:
            return await self.in_worker(self._shards.of, newcomer)
        except JoinRefused as error:
            self._refused_join(newcomer.name, error)
            raise

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Admit a newcomer or raise, and report, what it must change; the session's outbox begins with the welcome."""
        self._check_open()
        check_name(join.name)
        try:
            self.vouch(identity)
            await self._checked(join, identity)
            if join.role is Role.EDGE:
                return self._seat_edge(join, identity)
            session = Session(join, identity=identity)
            self._seat(session)
            return session
        except (CertificateError, JoinRefused) as error:
            self._refused_join(join.name, error)
            raise

    async def _checked(self, join: Join, identity: Identity | None, *, presented: bool = False) -> None:
        await self._reception.check(join, identity, presented=presented)
        self._check_open()

    def _seat(self, session: AnySession) -> None:
        """Give a device or an evaluator its seat and its welcome."""
        join = session.join
        number = self._seats.next_number(join, presented=isinstance(session, RelayedSession))
        spec = self._reception.ready().strategy.spec
        session.send(self._welcome(session.token, spec.targets))
        older = self._seats.take(session, number)
        if isinstance(older, RelayedSession):
            self._edges.drop(older)
        if isinstance(session, RelayedSession):
            self._edges.put(session)
        self._log.joined(join, via=session.stream.name if isinstance(session, RelayedSession) else "")
        if isinstance(session, Session) and join.role is Role.EVALUATOR:
            if not self.desk.expected:
                self._tasks.spawn(self.in_worker(self._log.evaluator_came))
            self.desk.seat(session, self._clock())
        else:
            self._driver.feed(events.Joined(device=join.name, epoch=number, now_s=self._clock()))

    def _seat_edge(self, join: Join, identity: Identity | None) -> Session:
        session, orphans = self._edges.seat(join, identity)
        for leaf in orphans:  # presented again, or seated elsewhere
            self._leave(leaf, lost=False)
        session.send(self._welcome(session.token, ()))
        self._guard.inform(session)  # before anything is asked of it for devices below
        self._log.joined(join)
        return session

    def _welcome(self, token: str, targets: tuple[str, ...]) -> Welcome:
        lease_s = self._driver.machine.policy.lease_s
        return Welcome(
            session=token, labels=self.labels, lease_s=lease_s, keep_set="", targets=targets, answers_beats=True
        )

    async def _present(self, edge: Session, join: Join) -> None:
        """A device has joined below an edge."""
        try:
            check_name(join.name)
            await self._checked(join, None, presented=True)
            if self._edges.holds(edge):
                self._seat(RelayedSession(join, edge))
        except FedcoreError as error:
            self._refused_join(join.name, error)
            edge.send(LeafRefused(device=join.name, error=type(error).__name__, message=str(error)))

    def _refused_join(self, name: str, error: FedcoreError) -> None:
        self._log.event("refused", device=name, message=str(error)[:MAX_REPORT])

    def _needs(self, newcomer: Newcomer) -> dict[str, int]:
        """Bytes by name of what a newcomer will ask its parent for."""
        needs: dict[str, int] = {}
        if newcomer.needs_model:
            needs |= {ref.id: ref.size for ref in self._reception.description.model_files}
        if self.engine is not None:
            adapter = self.engine.model.adapter
            needs |= {ref.id: ref.size for ref in (adapter.head, *adapter.rank_blocks) if not ref.inline}
        return needs

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("the coordinator is stopping; join again once it is back")

    def _ready(self) -> Engine:
        return self._reception.ready()

    # --- revoked certificates ---

    def vouch(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate has been revoked; None came without TLS."""
        self._guard.vouch(identity)

    def _streams(self) -> Iterator[Session]:
        """Sessions on streams of their own; an edge watches those below it."""
        yield from (each for each in self._seats if isinstance(each, Session))
        yield from self._edges

    def _expel(self, session: Session) -> None:
        serial = "" if session.identity is None else f"{session.identity.serial:x}"
        self._log.event("revoked", device=session.name, role=str(session.join.role), serial=serial)
        if session.join.role is Role.EDGE:
            self.leave(session)  # its devices turn to their other parents
        else:
            self.desk.leave(session)
            self._leave(session, lost=True)

    def _tell_revocations(self) -> None:
        current = self._guard.watch.current
        self._log.event("revocations", number=current.number, certificates=len(current.revoked))
        for edge in self._edges:
            self._guard.inform(edge)

    # --- streams ---

    def leave(self, session: Session) -> None:
        """The stream of `session` has closed."""
        if session.join.role is Role.EDGE:
            here = self._edges.holds(session)
            for leaf in self._edges.leave(session):
                self._leave(leaf, lost=False)
            if here:
                self._log.event("left", device=session.name, role=str(Role.EDGE))
            return
        self.desk.leave(session)
        self._leave(session, lost=False)

    def _leave(self, session: AnySession, *, lost: bool) -> None:
        if not self._seats.leave(session):
            return
        self._log.event("left", device=session.name, role=str(session.join.role))
        if session.join.role is Role.DEVICE:
            number = self._seats.number(session.name)
            self._driver.feed(events.Left(device=session.name, epoch=number, now_s=self._clock(), lost=lost))

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream; a fenced session's messages no longer count."""
        if session.join.role is Role.EDGE:
            if self._edges.holds(session):
                self._receive_edge(session, message)
            return
        if not self._seats.holds(session):
            return
        self.sign_of_life(session)
        match message:
            case UpdateSubmission():
                self._driver.take_update(session.name, message)
            case AssignmentFailure():
                self._driver.failed(session.name, message)
            case EvaluatorResult():
                self.desk.result(session, message)
            case Progress() | Heartbeat():
                pass  # signs of life, no more

    def _receive_edge(self, edge: Session, message: AnyUpward) -> None:
        self.sign_of_life(edge)
        match message:
            case LeafJoin():
                self._tasks.spawn(self._present(edge, message.join))
            case LeafLeft():
                leaf = self._edges.leaf(edge, message.device)
                if leaf is not None:
                    if message.revoked:
                        self._log.event("revoked", device=leaf.name, role=str(Role.DEVICE), via=edge.name)
                    self._edges.drop(leaf)
                    self._leave(leaf, lost=message.lost)
            case PartialSubmission():
                self._driver.take_partial(edge, message)
            case Holding():
                self._edges.learn(edge, message.blobs)

    def sign_of_life(self, session: Session) -> None:
        """Renew the lease of a session; an edge's words stand for every device below it, which it watches itself."""
        now_s = self._clock()
        if session.join.role is Role.EVALUATOR:
            self.desk.last_sign_s = now_s
            return
        alive: Iterable[AnySession] = (session,) if session.join.role is Role.DEVICE else self._edges.leaves(session)
        for each in alive:
            if self._seats.holds(each):
                self._driver.feed(events.Alive(device=each.name, epoch=self._seats.number(each.name), now_s=now_s))

    def session_of(self, name: str, token: str) -> Session | None:
        """The live session that holds `token`."""
        return session_of(self._seats, self._edges, name, token)

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes `session` may upload now; None where it has nothing to upload."""
        if session.join.role is Role.EVALUATOR:
            return 1 << 40 if self.desk.current is not None else None
        current = self.engine.open if self.engine is not None else None
        if current is None or current.round != round_index:
            return None
        if session.join.role is Role.EDGE:
            # A device that has left the edge is in its partial all the same.
            return part_bound(current.tally, len(current.wire_assignments))
        assignment = current.wire_assignments.get(session.name)
        return None if assignment is None else assignment.max_upload_bytes

    def uploading(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes when its round closes; what was here before it stays."""
        if new:
            (self.export_uploads if session.join.role is Role.EVALUATOR else self._driver.uploads).add(blob_id)

    def refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused; the device may send it again while the round is open."""
        self._log.event("rejected", device=session.name, round=round_index, message=str(error))

    async def bring(self, blob_id: str) -> None:
        """Everything that is handed out is here."""

    # --- evaluation ---

    def evaluate(self, rows: int) -> None:
        """Queue an evaluation of the current global adapter on `rows` test rows (0: all)."""
        engine = self._ready()
        self.desk.offer(
            EvaluateTask(adapter=engine.model.adapter, rows=rows, lora_scale=engine.config.training.lora_scale)
        )

    def _evaluate_round(self) -> None:
        if self._rows_per_round:
            self.evaluate(self._rows_per_round)

    def _evaluate_untrained(self) -> None:
        if self._rows_per_round and self._ready().model.adapter.round == 0:
            self.evaluate(self._rows_per_round)

    def _evaluated(self, kind: TaskKind, result: EvaluatorResult) -> None:
        self._tasks.spawn(self.in_worker(self._keep_result, kind, result))
