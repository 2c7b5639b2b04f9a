"""An edge: the parent of the devices below it, and a member of the tier above. The tier machine makes its decisions."""

import asyncio
import time
from collections.abc import Callable

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
    Join,
    Newcomer,
    Role,
    RoundClosed,
    RunDescription,
    UpdateSubmission,
    Welcome,
)
from fedcore.server.aggregate.partials import partial_bound
from fedcore.server.edge.cache import EdgeCache
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.round_driver import EdgeRounds
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.leases import Leases
from fedcore.server.members.membership import Membership
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import AnySession, Session
from fedcore.server.process.tasks import Tasks
from fedcore.transport.link import Link, Stream

CHECKS_PER_LEASE = 4


class Edge:
    """One edge process. Lives on the event loop; `number` is that of the last submission before this process began."""

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
        self.membership = Membership(self._hooks(say), revocations)
        self._say = say
        self._notes = notes or EdgeNotes()
        self._clock = clock
        self._link = link
        self._engine = engine
        self._cache = EdgeCache(engine.blobs, link, on_arrival=self._send_blobs)
        self._uplink = EdgeUplink(answer_s=link.settings.silence_s)
        self._rounds = EdgeRounds(
            name=name,
            number=number,
            link=link,
            engine=engine,
            uplink=self._uplink,
            cache=self._cache,
            sessions=self.membership.sessions,
            edges=self.membership.edges,
            tasks=self.tasks,
            say=say,
            notes=self._notes,
            clock=clock,
        )
        self._lease_s = link.settings.silence_s
        self._description: RunDescription | None = None
        self._leases: Leases[Session] = Leases()  # of streams; an edge speaks for the devices below it
        self._lease_timer: asyncio.TimerHandle | None = None
        self._release_timer: asyncio.TimerHandle | None = None

    # --- the tier above ---

    async def welcome(self, welcome: Welcome, stream: Stream) -> None:
        """Begin, or go on after a reconnect, once the tier above has admitted this edge: present all its devices."""
        if self._release_timer is not None:
            self._release_timer.cancel()
            self._release_timer = None
        self._lease_s = welcome.lease_s
        if self._lease_timer is None:
            await self._run_description()
            self._cache.keep_lasting()
            self.tasks.spawn(self._rounds.take_shares())
            self._check_leases()
            self.membership.guard.begin(self.tasks, self._lease_s)
        self._uplink.set_stream(welcome, stream)
        for session in self.membership.sessions:
            self._uplink.send(LeafJoin(join=session.join))
        self._send_blobs()
        self._rounds.feed(events.UplinkRestored(now_s=self._clock()))

    def stream_closed(self) -> None:
        """Note that the stream to the tier above closed. If it stays closed, members are sent to another parent."""
        self._uplink.drop_stream()
        if self._release_timer is None:
            self._release_timer = self.tasks.later(self._lease_s / 3, self._release)

    async def message(self, message: AnyDownward, stream: Stream) -> None:
        """Handle one message of the tier above."""
        match message:
            case RoundShare():
                self._rounds.queue_share(message)
            case PartialVerdict():
                self._rounds.take_verdict(message)
            case RoundClosed():
                self._rounds.round_closed(message.round)
            case LeafJoined() | LeafRefused():
                if not self._uplink.take_answer(message):
                    self._take_late_answer(message)
            case LeafDismissed():
                self._dismiss(message.device, epoch=message.epoch, goodbye=message.goodbye)
            case Revocations():
                self.membership.guard.install(message.crl)

    def close(self, reason: str | None) -> None:
        """End all timers and all sessions: with the goodbye `reason`, or with None to another parent."""
        self.membership.close(reason, refusal="this edge is stopping; join again, or elsewhere")
        self._rounds.close()
        for timer in (self._lease_timer, self._release_timer):
            if timer is not None:
                timer.cancel()

    async def stop(self) -> None:
        """Stop all transfers and the worker."""
        self._uplink.drop_stream()
        await self._cache.close()
        await self.tasks.close()

    def _release(self) -> None:
        self._say("the tier above stays away; devices are sent on")
        self.membership.send_away(None)

    def _send_blobs(self) -> None:
        """Tell the tier above which blobs a newcomer could fetch here."""
        self._uplink.send(Holding(blobs=self._cache.blob_ids()))

    def _take_late_answer(self, message: LeafJoined | LeafRefused) -> None:
        """Take an answer that no join waits for: its device was presented again, or has left since."""
        if isinstance(message, LeafRefused):
            self._dismiss(message.device)
        elif self.membership.sessions.find(message.device) is None:
            self._uplink.send(LeafLeft(device=message.device))

    def _dismiss(self, device: str, *, epoch: int | None = None, goodbye: str = "") -> None:
        """End the session of a device; with `epoch` only that one, because a newer session may be here by now."""
        session = self.membership.sessions.find(device)
        if session is not None and epoch in (None, session.join.epoch):
            self.membership.dismiss(session, goodbye)

    # --- members below ---

    def _hooks(self, say: Callable[[str], None]) -> MembershipHooks:
        return MembershipHooks(
            describe=self._describe,
            admit=self._admit,
            arrived=self._arrived,
            departed=self._departed,
            alive=lambda session: self._leases.renew(session, self._clock()),
            message=self._receive,
            evicted=self._evicted,
            revocations_refused=say,
            withdrawn=self._withdrawn,
            spawn=self.tasks.spawn,
        )

    async def _describe(self, newcomer: Newcomer) -> tuple[RunDescription, dict[str, int]]:
        """Return the root's description, with a shard if requested, and the blobs of the run and of the open round."""
        description = await self._run_description()
        if newcomer.wants_shard:
            description = await self._link.describe(newcomer)
        needs = {ref.id: ref.size for ref in description.model_files} if newcomer.needs_model else {}
        needs |= {
            ref.id: ref.size
            for assignment in self._rounds.assignments.values()
            for ref in assignment.refs
            if not ref.inline
        }
        return description, needs

    async def _run_description(self) -> RunDescription:
        description = self._description
        if description is None or not description.labels:
            description = self._description = await self._link.describe()
            self._cache.learn(description.model_files, lasting=True)
        return description

    async def _admit(self, join: Join) -> Welcome:
        """Ask the root to admit a device; raises the root's error, or TransportError while the stream is down."""
        if join.role is Role.EVALUATOR:
            raise JoinRefused(f"{join.name}: an evaluator joins the coordinator itself, not an edge")
        if join.role is Role.DEVICE:
            return await self._uplink.ask(join)
        await self._uplink.wait_connected()
        return Welcome(session="", labels=(), lease_s=self._lease_s, keep_set="", targets=(), answers_beats=True)

    def _withdrawn(self, join: Join) -> None:
        if join.role is Role.DEVICE and self.membership.sessions.find(join.name) is None:
            self._uplink.send(LeafLeft(device=join.name))  # the tier above has admitted it

    def _arrived(self, session: AnySession) -> None:
        self._leases.renew(session.stream, self._clock())
        self._notes.event("joined", device=session.name, role=str(session.join.role))

    def _departed(self, session: AnySession, departure: Departure) -> None:
        if isinstance(session, Session):
            self._leases.end(session)
        if departure.cause is not Cause.REPLACED:
            self._notes.event("left", device=session.name, role=str(session.join.role))
        if session.join.role is Role.EDGE:
            return
        has_update = self._rounds.machine.holds(session.name)  # then the round does not lose the device
        # Messages on its stream may be lost; the root sends them again.
        self._rounds.feed(events.DeviceLeft(device=session.name, now_s=self._clock()))
        if departure.cause in (Cause.LEFT, Cause.REVOKED):
            revoked = departure.cause is Cause.REVOKED
            self._uplink.send(LeafLeft(device=session.name, lost=departure.lost and not has_update, revoked=revoked))

    def _evicted(self, session: AnySession) -> None:
        if isinstance(session, Session):  # a child edge has reported the devices below it itself
            self._say(f"cut off {session.join.role} {session.name}: {session.fault}")

    def _receive(self, session: Session, message: AnyUpward) -> None:
        if session.join.role is Role.EDGE:
            if isinstance(message, PartialSubmission):
                self.tasks.spawn(self._rounds.take_partial(session.name, message))
            return
        match message:
            case UpdateSubmission():
                self.tasks.spawn(self._rounds.take_update(session, message))
            case AssignmentFailure():
                self._rounds.failed(session.name, message)

    def _check_leases(self) -> None:
        for session in self._leases.expired(self._clock(), self._lease_s):
            self.membership.expire(session)
        self._lease_timer = self.tasks.later(self._lease_s / CHECKS_PER_LEASE, self._check_leases)

    # --- uploads and downloads ---

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Return the most bytes that `session` may upload now; None if it has nothing to upload."""
        if session.join.role is not Role.EDGE:
            assignment = self._rounds.assignments.get(session.name)
            return None if assignment is None or assignment.round != round_index else assignment.max_upload_bytes
        current = self._engine.sum  # the worker may not have opened the round yet: then the child tries again
        if current is None or current.terms.round != round_index:
            return None
        below = len(self.membership.edges.devices_below(session))
        return partial_bound(current.terms, max(1, below, len(current.terms.assignments)))

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it is deleted after its round."""
        if new:
            self._rounds.note_upload(blob_id)

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        self._say(f"round {round_index}: refused an upload of {session.name}: {error}")

    async def ensure_blob(self, blob_id: str) -> None:
        """Return once a blob can be served; raises ProtocolError if no assignment or run description names it."""
        await self._cache.ensure_blob(blob_id)
