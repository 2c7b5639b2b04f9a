"""Edges that are here, the devices below each of them, and what each can serve without asking above."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fedcore.protos.values import Join
from fedcore.server.members.parent_offer import ParentOffer
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from fedcore.storage.pki.certificates import Identity


@dataclass(slots=True, eq=False)
class _Edge:
    session: Session
    leaves: dict[str, RelayedSession] = field(default_factory=dict)
    holds: frozenset[str] = frozenset()


class EdgeRegistry:
    """Edge sessions by name, apart from the devices': both may have the same names. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin with no edge."""
        self._seats = SessionRegistry()
        self._edges: dict[str, _Edge] = {}

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy of the edges' sessions."""
        return iter([edge.session for edge in self._edges.values()])

    def seat(self, join: Join, identity: Identity | None = None) -> tuple[Session, tuple[RelayedSession, ...]]:
        """Seat an edge; returns its session and the leaves of its older one, which are not here any more.

        Raises JoinRefused for a stale session or a second edge of the name.
        """
        number = self._seats.next_number(join)
        session = Session(join, identity=identity)
        self._seats.take(session, number)
        older = self._edges.get(join.name)
        self._edges[join.name] = _Edge(session)
        return session, () if older is None else tuple(older.leaves.values())

    def leave(self, session: Session) -> tuple[RelayedSession, ...]:
        """The stream of an edge has closed: return the leaves that went with it, none where a newer one has them."""
        if not self._seats.leave(session):
            return ()
        return tuple(self._edges.pop(session.name).leaves.values())

    def holds(self, session: Session) -> bool:
        """Whether `session` is its edge's newest, and open."""
        return self._seats.holds(session)

    def find(self, name: str) -> Session | None:
        """The open session of an edge."""
        edge = self._edges.get(name)
        return None if edge is None else edge.session

    def put(self, leaf: RelayedSession) -> None:
        """Note a device below the edge of its stream."""
        self._edges[leaf.stream.name].leaves[leaf.name] = leaf

    def drop(self, leaf: RelayedSession) -> None:
        """Forget a device below an edge."""
        edge = self._edges.get(leaf.stream.name)
        if edge is not None and edge.leaves.get(leaf.name) is leaf:
            del edge.leaves[leaf.name]

    def leaf(self, session: Session, device: str) -> RelayedSession | None:
        """The device of this name below an edge."""
        edge = self._edges.get(session.name)
        return edge.leaves.get(device) if edge is not None and edge.session is session else None

    def leaves(self, session: Session) -> tuple[RelayedSession, ...]:
        """All devices below an edge."""
        edge = self._edges.get(session.name)
        return tuple(edge.leaves.values()) if edge is not None and edge.session is session else ()

    def learn(self, session: Session, blobs: Iterable[str]) -> None:
        """Note what an edge can serve."""
        edge = self._edges.get(session.name)
        if edge is not None and edge.session is session:
            edge.holds = frozenset(blobs)

    def parents(self) -> tuple[ParentOffer, ...]:
        """Edges that take newcomers, for placement."""
        return tuple(
            ParentOffer(address=edge.session.join.address, holds=edge.holds, devices=len(edge.leaves))
            for edge in self._edges.values()
            if edge.session.join.address
        )


def session_of(seats: SessionRegistry, edges: EdgeRegistry, name: str, token: str) -> Session | None:
    """The live session, of a device or an edge, that holds `token`; both kinds may have the same names."""
    for session in (seats.find(name), edges.find(name)):
        if isinstance(session, Session) and session.token == token:
            return session
    return None
