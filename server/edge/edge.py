"""An edge: a parent to the devices below it, one member to the tier above. Decides nothing; the tier machine does."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from fedcore.core.contract.profile import check_name
from fedcore.core.errors import FedcoreError, JoinRefused
from fedcore.core.rounds.tier import events
from fedcore.protos.tier_values import (
    AnyDownward,
    AnyUpward,
    Holding,
    LeafDismissed,
    LeafJoin,
    LeafJoined,
    LeafLeft,
    LeafRefused,
    PartialSubmission,
    PartialVerdict,
    Revocations,
    RoundShare,
)
from fedcore.protos.values import (
    AssignmentFailure,
    Goodbye,
    Join,
    Newcomer,
    Role,
    RoundClosed,
    RunDescription,
    UpdateSubmission,
    Welcome,
)
from fedcore.server.aggregate.partials import part_bound
from fedcore.server.edge.cache import EdgeCache
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.round_driver import EdgeRounds
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.members.admission import check_device, check_identity, check_protocol
from fedcore.server.members.edge_registry import EdgeRegistry, session_of
from fedcore.server.members.parent_offer import rank_parents
from fedcore.server.members.revocation_guard import RevocationGuard
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import AnySession, RelayedSession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.storage.pki.certificates import Identity
from fedcore.transport.link import Link, Stream

CHECKS_PER_LEASE = 4


class Edge:
    """One edge process. Lives on the event loop; `number` is that of its last submission in an earlier life."""

    def __init__(
        self,
        *,
        name: str,
        link: Link,
        engine: EdgeEngine,
        number: int,
        say: Callable[[str], None],
        notes: EdgeNotes | None = None,
        revocations: RevocationWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing happens before `welcome`."""
        self.tasks = Tasks()
        self._seats = SessionRegistry()
        self._edges = EdgeRegistry()
        self._say = say
        self._notes = notes or EdgeNotes()
        self._clock = clock
        self._link = link
        self._engine = engine
        self._cache = EdgeCache(engine.blobs, link, arrived=self._tell_holding)
        self._uplink = EdgeUplink(answer_s=link.settings.silence_s)
        self._rounds = EdgeRounds(
            name=name,
            number=number,
            link=link,
            engine=engine,
            uplink=self._uplink,
            cache=self._cache,
            seats=self._seats,
            edges=self._edges,
            tasks=self.tasks,
            say=say,
            notes=self._notes,
            clock=clock,
        )
        self._guard = RevocationGuard(
            revocations or RevocationWatch(),
            sessions=self._streams,
            expel=self._expel,
            changed=self._tell_revocations,
            refused=say,
        )
        self._lease_s = link.settings.silence_s
        self._description: RunDescription | None = None
        self._seen_s: dict[Session, float] = {}
        self._checking: asyncio.TimerHandle | None = None
        self._releasing: asyncio.TimerHandle | None = None

    # --- the tier above ---

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """The tier above has (again) taken this edge in: present everybody who is here."""
        if self._releasing is not None:
            self._releasing.cancel()
            self._releasing = None
        self._lease_s = welcome.lease_s
        if self._checking is None:
            await self._describe()
            self._cache.keep_lasting()
            self.tasks.spawn(self._rounds.take_shares())
            self._check_leases()
            self._guard.begin(self.tasks, self._lease_s)
        self._uplink.up(welcome, stream)
        for session in self._seats:
            self._uplink.tell(LeafJoin(join=session.join))
        self._tell_holding()
        self._rounds.feed(events.Reconnected(now_s=self._clock()))

    def lost(self) -> None:
        """The stream to the tier above has closed. If it stays so, whoever is here had better turn elsewhere."""
        self._uplink.down()
        if self._releasing is None:
            self._releasing = self.tasks.later(self._lease_s / 3, self._release)

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """Take one message of the tier above."""
        match message:
            case RoundShare():
                self._rounds.shared(message)
            case PartialVerdict():
                self._rounds.answered(message)
            case RoundClosed():
                self._rounds.closed(message.round)
            case LeafJoined():
                if not self._uplink.answered(message) and self._seats.find(message.device) is None:
                    self._uplink.tell(LeafLeft(device=message.device))  # it went before it was let in
            case LeafRefused():
                if not self._uplink.answered(message):
                    self._dismiss(LeafDismissed(device=message.device, epoch=0), any_epoch=True)
            case LeafDismissed():
                self._dismiss(message)
            case Revocations():
                self._guard.take(message.crl)

    def close(self, reason: str | None) -> None:
        """Send everybody on, home with the run's parting words or, without, to another parent, and end every timer."""
        self._send_on(reason)
        self._guard.close()
        self._rounds.close()
        for timer in (self._checking, self._releasing):
            if timer is not None:
                timer.cancel()

    async def stop(self) -> None:
        """Stop every transfer and the worker."""
        self._uplink.down()
        await self._cache.close()
        await self.tasks.close()

    def _release(self) -> None:
        self._say("the tier above stays away; devices are sent on")
        self._send_on(None)

    def _send_on(self, reason: str | None) -> None:
        for session in {each.stream for each in self._seats} | set(self._edges):
            if reason is not None:
                session.send(Goodbye(reason=reason))
            session.close()

    def _tell_holding(self) -> None:
        """Tell the tier above what newcomers would find here."""
        self._uplink.tell(Holding(blobs=self._cache.held()))

    def _dismiss(self, message: LeafDismissed, *, any_epoch: bool = False) -> None:
        session = self._seats.find(message.device)
        if session is None or not (any_epoch or session.join.epoch == message.epoch):
            return
        if message.goodbye:
            session.send(Goodbye(reason=message.goodbye))
        session.close()
        self._left(session, lost=False, tell=False)

    # --- members below ---

    async def describe(self, newcomer: Newcomer, identity: Identity | None) -> RunDescription:
        """What a newcomer must know, the child edges it had best join, and the shard that the root gives it."""
        known = await self._describe()
        if newcomer.wants_shard:
            if identity is None or identity.kind != "edge":
                check_device(newcomer.name, newcomer.device_class, identity)
            known = await self._link.describe(newcomer)
        needs = {ref.id: ref.size for ref in known.model_files} if newcomer.needs_model else {}
        needs |= {
            ref.id: ref.size
            for assignment in self._rounds.assignments.values()
            for ref in assignment.refs
            if not ref.inline
        }
        return replace(known, parents=rank_parents(needs, self._edges.parents()))

    async def _describe(self) -> RunDescription:
        known = self._description
        if known is None or not known.labels:
            known = self._description = await self._link.describe()
            self._cache.learn(known.model_files, lasting=True)
        return known

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Admit a newcomer as the root does; raises what the root raises, and TransportError while it is away."""
        check_name(join.name)
        check_protocol(join)
        check_identity(join, identity)
        self.vouch(identity)
        if join.role is Role.EVALUATOR:
            raise JoinRefused(f"{join.name}: an evaluator joins the coordinator itself, not an edge")
        if join.role is Role.EDGE:
            await self._uplink.wait_up()
            return self._seat_edge(join, identity)
        number = self._seats.next_number(join)
        welcome = await self._uplink.ask(join)
        self.vouch(identity)  # the tier above has taken its time, and may have sent a newer list meanwhile
        session = Session(join, identity=identity)
        session.send(replace(welcome, session=session.token))
        self._seat(session, number)
        return session

    def _seat_edge(self, join: Join, identity: Identity | None) -> Session:
        session, orphans = self._edges.seat(join, identity)
        for leaf in orphans:
            self._left(leaf, lost=False)
        session.send(
            Welcome(
                session=session.token, labels=(), lease_s=self._lease_s, keep_set="", targets=(), answers_beats=True
            )
        )
        self._guard.inform(session)
        self._seen_s[session] = self._clock()
        self._notes.event("joined", device=join.name, role="edge")
        return session

    async def _present(self, child: Session, join: Join) -> None:
        """A device has joined below a child edge, or is said again to be there."""
        try:
            number = self._seats.next_number(join, presented=True)
            welcome = await self._uplink.ask(join)
            if self._edges.holds(child):
                leaf = RelayedSession(join, child)
                leaf.send(welcome)
                self._seat(leaf, number)
                self._edges.put(leaf)
            elif self._seats.find(join.name) is None:
                self._uplink.tell(LeafLeft(device=join.name))
        except FedcoreError as error:
            child.send(LeafRefused(device=join.name, error=type(error).__name__, message=str(error)))

    def _seat(self, session: AnySession, number: int) -> None:
        older = self._seats.take(session, number)
        if older is not None:  # what went down its stream may be lost; the root hands it out again
            self._rounds.feed(events.Gone(device=session.name, now_s=self._clock()))
        if isinstance(older, RelayedSession):
            self._edges.drop(older)
        self._seen_s[session.stream] = self._clock()
        self._notes.event("joined", device=session.name, role="device")

    def leave(self, session: Session) -> None:
        """The stream of `session` has closed."""
        self._seen_s.pop(session, None)
        if session.join.role is Role.EDGE:
            if self._edges.holds(session):
                self._notes.event("left", device=session.name, role="edge")
            for leaf in self._edges.leave(session):
                self._left(leaf, lost=False)
        else:
            self._left(session, lost=False)

    def _left(self, session: AnySession, *, lost: bool, tell: bool = True, revoked: bool = False) -> None:
        if not self._seats.leave(session):
            return
        if isinstance(session, RelayedSession):
            self._edges.drop(session)
        self._notes.event("left", device=session.name, role="device")
        held = self._rounds.machine.holds(session.name)
        self._rounds.feed(events.Gone(device=session.name, now_s=self._clock()))
        if tell:
            self._uplink.tell(LeafLeft(device=session.name, lost=lost and not held, revoked=revoked))

    def vouch(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate has been revoked; None came without TLS."""
        self._guard.vouch(identity)

    def _streams(self) -> Iterator[Session]:
        """Sessions on streams of their own; a child edge watches those below it."""
        yield from (each for each in self._seats if isinstance(each, Session))
        yield from self._edges

    def _expel(self, session: Session) -> None:
        self._say(f"cut off {session.join.role} {session.name}: {session.fault}")
        if session.join.role is Role.EDGE:
            self.leave(session)
        else:
            self._seen_s.pop(session, None)
            self._left(session, lost=True, revoked=True)

    def _tell_revocations(self) -> None:
        for edge in self._edges:
            self._guard.inform(edge)

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream below; a fenced session's messages no longer count."""
        child = session.join.role is Role.EDGE
        if not (self._edges.holds(session) if child else self._seats.holds(session)):
            return
        self.sign_of_life(session)
        match message:
            case UpdateSubmission() if not child:
                self.tasks.spawn(self._rounds.take_update(session, message))
            case AssignmentFailure() if not child:
                self._rounds.failed(session.name, message.round, message.message)
            case LeafJoin() if child:
                self.tasks.spawn(self._present(session, message.join))
            case LeafLeft() if child:
                leaf = self._edges.leaf(session, message.device)
                if leaf is not None:
                    self._left(leaf, lost=message.lost, revoked=message.revoked)
            case PartialSubmission() if child:
                self.tasks.spawn(self._rounds.take_part(session.name, message))
            case Holding() if child:
                self._edges.learn(session, message.blobs)

    def sign_of_life(self, session: Session) -> None:
        """Renew the lease of a session."""
        self._seen_s[session] = self._clock()

    def session_of(self, name: str, token: str) -> Session | None:
        """The live session that holds `token`."""
        return session_of(self._seats, self._edges, name, token)

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes `session` may upload now; None where it has nothing to upload."""
        if session.join.role is not Role.EDGE:
            assignment = self._rounds.assignments.get(session.name)
            return None if assignment is None or assignment.round != round_index else assignment.max_upload_bytes
        tally = self._engine.tally  # the worker's: it may be behind, and the child tries again
        if tally is None or tally.round != round_index:
            return None
        return part_bound(tally, max(1, len(self._edges.leaves(session)), len(tally.assignments)))

    def uploading(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes when its round is behind us."""
        if new:
            self._rounds.uploading(blob_id)

    def refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        self._say(f"round {round_index}: refused an upload of {session.name}: {error}")

    async def bring(self, blob_id: str) -> None:
        """See to it that a blob can be served."""
        await self._cache.bring(blob_id)

    def _check_leases(self) -> None:
        now_s = self._clock()
        for session, seen_s in list(self._seen_s.items()):
            if now_s < seen_s + self._lease_s:
                continue
            session.close()
            del self._seen_s[session]
            gone = self._edges.leave(session) if session.join.role is Role.EDGE else (session,)
            for each in gone:
                self._left(each, lost=True)
        self._checking = self.tasks.later(self._lease_s / CHECKS_PER_LEASE, self._check_leases)
