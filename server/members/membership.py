"""The members of one parent: admission, sessions, departures. The same for coordinator, edge and Flower host.

Theory of operation. A member is a device, an evaluator or an edge, known by its name. It asks for a description of the
run (`describe`), which also names the best edges to join. Then it opens a stream with its join as the first message.
`join` checks certificate and protocol, refuses a stale session, asks the parent (`MembershipHooks.admit`, which may ask
the tier above), checks again what may have changed during the wait, and registers a session. From then on the session
is live: its messages count, every message is a sign of life, and an upload names it by its token (`session_of`).

At most one session of a name is live. A device counts its sessions: its epoch rises with every connect. A join with a
newer epoch fences the older session, because its connection may be dead without notice: the older stream is closed, and
messages that still arrive on it are dropped. A join with an older epoch is refused. Another device (another uuid) gets
a name only while the name is free.

A device below an edge is a relayed device. Its stream ends at its edge, which presents it with LeafJoin, and with the
same join again after the edge's own stream broke. Its session here is a `RelayedSession`: messages to it go down the
edge's stream with its name on them. It departs with its edge, or when the edge reports it with LeafLeft. A name is live
at one parent only: a device that moves to another parent fences its older session through its epoch.

Every session that arrived departs exactly once: its stream closed, its lease ran out (the parent keeps leases and calls
`expire`), a newer session replaced it, the tier above dismissed it, or its certificate was revoked. The parent decides
what becomes of the assignment of a device that left: the device may be back within its lease. After `close`, departures
of devices are not reported, because the parent itself ends.

A list of revoked certificates comes into force when crl.pem changes or when the tier above sends one. It goes at once
to every edge that takes lists; an edge that joins later gets it right after its welcome. Then every live session is
checked; a session on the list is cut off with the reason, and evicted. An edge checks the devices below it itself and
reports which of them it evicted. If the certificate of the edge itself is revoked, its devices are not lost: they join
their other parents.
"""

from collections.abc import Collection, Iterator
from dataclasses import replace

from fedcore.core.contract.profile import check_name
from fedcore.core.errors import CertificateError, FedcoreError, JoinRefused, TransportError
from fedcore.protos.tier_values import AnyUpward, Holding, LeafJoin, LeafLeft, LeafRefused
from fedcore.protos.values import Goodbye, Join, Newcomer, Role, RunDescription, Welcome
from fedcore.server.members.admission import check_device, check_identity, check_protocol
from fedcore.server.members.edge_registry import EdgeRegistry
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.parent_offer import rank_parents
from fedcore.server.members.revocation_guard import RevocationGuard
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import AnySession, RelayedSession, Session
from fedcore.storage.pki.certificates import Identity

ALL_ROLES = tuple(Role)


class Membership:
    """The members of one parent; `hooks` are that parent's part. Lives on the event loop."""

    def __init__(self, hooks: MembershipHooks, revocations: RevocationWatch | None = None) -> None:
        """Begin without members."""
        self.sessions = SessionRegistry()  # of devices and evaluators, also below edges
        self.edges = EdgeRegistry()
        self.guard = RevocationGuard(
            revocations or RevocationWatch(),
            sessions=self._streams,
            evict=self._evict,
            changed=self._send_revocations,
            refused=hooks.revocations_refused,
        )
        self._hooks = hooks
        self._refusal = ""

    # --- newcomers ---

    async def describe(self, newcomer: Newcomer, identity: Identity | None) -> RunDescription:
        """Return what a newcomer must know, the best edges to join, and the shard that it requests.

        Raises CertificateError for a request in another device's name, JoinRefused if there is no shard for it.
        """
        if newcomer.wants_shard and (identity is None or identity.kind != "edge"):  # an edge has checked it already
            check_device(newcomer.name, newcomer.device_class, identity)
        try:
            description, needs = await self._hooks.describe(newcomer)
        except JoinRefused as error:
            self._hooks.refused(newcomer.name, error)
            raise
        return replace(description, parents=rank_parents(needs, self.edges.parents()))

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Admit a newcomer on a stream of its own; the outbox of its session begins with the welcome.

        Raises CertificateError or JoinRefused with what the newcomer must change, any other error of the parent's
        `admit`, and TransportError once the membership is closed.
        """
        self.check_open()
        check_name(join.name)
        try:
            self.guard.check_certificate(identity)
            check_protocol(join)
            check_identity(join, identity)
            session = Session(join, identity=identity)
            await self._admit(session)
            return session
        except (CertificateError, JoinRefused) as error:
            self._hooks.refused(join.name, error)
            raise

    async def _join_relayed(self, edge: Session, join: Join) -> None:
        """Admit a device below an edge, or send the edge the reason. The edge has checked the device's certificate."""
        try:
            check_name(join.name)
            check_protocol(join)
            await self._admit(RelayedSession(join, edge))
        except FedcoreError as error:
            if self.edges.is_current(edge):
                self._hooks.refused(join.name, error)
                edge.send(LeafRefused(device=join.name, error=type(error).__name__, message=str(error)))

    async def _admit(self, session: AnySession) -> None:
        self._check_name_free(session)  # refuses a stale session before the parent is asked
        welcome = await self._hooks.admit(session.join)
        try:
            self.check_open()
            self.guard.check_certificate(session.stream.identity)
            self._check_name_free(session)
        except FedcoreError:
            self._hooks.withdrawn(session.join)
            raise
        self._register(session, replace(welcome, session=session.token))

    def _check_name_free(self, session: AnySession) -> None:
        """Raise JoinRefused unless the session may be the current one of its name."""
        if session.join.role is Role.EDGE:
            self.edges.check(session.join)
            return
        relayed = isinstance(session, RelayedSession)
        if relayed and not self.edges.is_current(session.stream):
            raise TransportError(f"{session.stream.name} has left; join {session.name} elsewhere")
        self.sessions.next_number(session.join, presented=relayed)

    def _register(self, session: AnySession, welcome: Welcome) -> None:
        """Make a session the current one of its name; the older session, if there is one, departs."""
        session.send(welcome)  # first, before any other message on its stream
        if isinstance(session, Session) and session.join.role is Role.EDGE:
            older: AnySession | None = self.edges.find(session.name)
            for device in self.edges.register(session):  # the new session presents them again
                self._end(device, Departure(cause=Cause.LEFT))
            self.guard.send_list(session)
        else:
            older = self.sessions.register(session)
        if older is not None:
            self._report(older, Departure(cause=Cause.REPLACED))
        if isinstance(session, RelayedSession):
            self.edges.add_device(session)
        self._hooks.arrived(session)

    def check_open(self) -> None:
        """Raise TransportError once the membership is closed."""
        if self._refusal:
            raise TransportError(self._refusal)

    # --- members ---

    def session_of(self, name: str, token: str) -> Session | None:
        """Return the live session that holds `token`; a device and an edge may have the same name."""
        for session in (self.sessions.find(name), self.edges.find(name)):
            if isinstance(session, Session) and session.token == token:
                return session
        return None

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream; a message of a session that is not live is dropped."""
        if not self._is_live(session):
            return
        self._hooks.alive(session)
        if session.join.role is not Role.EDGE:
            self._hooks.message(session, message)
            return
        match message:
            case LeafJoin():
                self._hooks.spawn(self._join_relayed(session, message.join))
            case LeafLeft():
                self._end_relayed(session, message)
            case Holding():
                self.edges.note_blobs(session, message.blobs)
            case _:
                self._hooks.message(session, message)

    def sign_of_life(self, session: Session) -> None:
        """Note that a live session is alive, for instance because a chunk of its upload has come."""
        if self._is_live(session):
            self._hooks.alive(session)

    def _is_live(self, session: Session) -> bool:
        registry = self.edges if session.join.role is Role.EDGE else self.sessions
        return registry.is_current(session)

    # --- departures ---

    def leave(self, session: Session) -> None:
        """End a session whose stream has closed. May be called more than once."""
        self._end(session, Departure(cause=Cause.LEFT))

    def expire(self, session: Session) -> None:
        """End a session whose lease has run out, and close its stream."""
        session.close()
        self._end(session, Departure(cause=Cause.LEFT, lost=True))

    def dismiss(self, session: AnySession, goodbye: str) -> None:
        """End a session for the tier above, with a `goodbye`; if that is empty, the device joins another parent."""
        if goodbye:
            session.send(Goodbye(reason=goodbye))
        session.close()
        self._end(session, Departure(cause=Cause.DISMISSED))

    def send_away(self, goodbye: str | None, roles: Collection[Role] = ALL_ROLES) -> None:
        """Close the streams of all members with these roles, with a `goodbye`; with None they join another parent.

        The sessions end with their streams. An edge passes the goodbye on to the devices below it.
        """
        for session in self._streams():
            if session.join.role in roles:
                if goodbye is not None:
                    session.send(Goodbye(reason=goodbye))
                session.close()

    def close(self, goodbye: str | None, *, refusal: str) -> None:
        """Send all members away and refuse newcomers with `refusal`; later departures of devices are not reported."""
        self._refusal = refusal
        self.guard.close()
        self.send_away(goodbye)
        self.sessions.clear()

    def _end(self, session: AnySession, departure: Departure) -> None:
        """Free the name of a session and report its departure; do nothing if the session is not the current one."""
        if isinstance(session, Session) and session.join.role is Role.EDGE:
            if not self.edges.is_current(session):
                return
            for device in self.edges.remove(session):
                self._end(device, Departure(cause=Cause.LEFT, lost=departure.lost))
        elif not self.sessions.remove(session):
            return
        self._report(session, departure)

    def _end_relayed(self, edge: Session, message: LeafLeft) -> None:
        device = self.edges.device_below(edge, message.device)
        if device is None:
            return
        if message.revoked:
            self._hooks.evicted(device)
        cause = Cause.REVOKED if message.revoked else Cause.LEFT
        self._end(device, Departure(cause=cause, lost=message.lost))

    def _report(self, session: AnySession, departure: Departure) -> None:
        if isinstance(session, RelayedSession):
            self.edges.drop_device(session)
        self._hooks.departed(session, departure)

    # --- revoked certificates ---

    def _streams(self) -> Iterator[Session]:
        """Sessions on streams of their own; an edge watches the devices below it."""
        yield from (session for session in self.sessions if isinstance(session, Session))
        yield from self.edges

    def _evict(self, session: Session) -> None:
        self._hooks.evicted(session)
        self._end(session, Departure(cause=Cause.REVOKED, lost=session.join.role is not Role.EDGE))

    def _send_revocations(self) -> None:
        self._hooks.revocations_changed(self.guard.watch.current)
        for edge in self.edges:
            self.guard.send_list(edge)
