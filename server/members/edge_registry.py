"""The current session of every edge, the devices below each, and what each can serve without asking above."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from fedcore.protos.values import Join
from fedcore.server.members.parent_offer import ParentOffer
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session


@dataclass(slots=True, eq=False)
class _Edge:
    session: Session
    devices: dict[str, RelayedSession] = field(default_factory=dict)
    blobs: frozenset[str] = frozenset()


class EdgeRegistry:
    """Edge sessions by name, apart from those of devices: both may have the same names. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin empty."""
        self._sessions = SessionRegistry()
        self._edges: dict[str, _Edge] = {}

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy of the edges' sessions."""
        return iter([edge.session for edge in self._edges.values()])

    def check(self, join: Join) -> None:
        """Raise JoinRefused for a stale session, or for a second edge of the name."""
        self._sessions.next_number(join)

    def register(self, session: Session) -> tuple[RelayedSession, ...]:
        """Make a session its edge's current one; returns the devices below the older one, which are gone with it.

        Raises JoinRefused as `check` does.
        """
        self._sessions.register(session)
        older = self._edges.get(session.name)
        self._edges[session.name] = _Edge(session)
        return () if older is None else tuple(older.devices.values())

    def remove(self, session: Session) -> tuple[RelayedSession, ...]:
        """Remove an edge's session; returns the devices that go with it, none where a newer session has them."""
        if not self._sessions.remove(session):
            return ()
        return tuple(self._edges.pop(session.name).devices.values())

    def is_current(self, session: Session) -> bool:
        """Whether this is its edge's newest session, and open."""
        return self._sessions.is_current(session)

    def find(self, name: str) -> Session | None:
        """Return the current session of an edge."""
        edge = self._edges.get(name)
        return None if edge is None else edge.session

    def add_device(self, device: RelayedSession) -> None:
        """Note a device below the edge of its stream."""
        self._edges[device.stream.name].devices[device.name] = device

    def drop_device(self, device: RelayedSession) -> None:
        """Forget a device below an edge."""
        edge = self._edges.get(device.stream.name)
        if edge is not None and edge.devices.get(device.name) is device:
            del edge.devices[device.name]

    def device_below(self, session: Session, name: str) -> RelayedSession | None:
        """Return the device of this name below an edge."""
        edge = self._edges.get(session.name)
        return edge.devices.get(name) if edge is not None and edge.session is session else None

    def devices_below(self, session: Session) -> tuple[RelayedSession, ...]:
        """Return all devices below an edge."""
        edge = self._edges.get(session.name)
        return tuple(edge.devices.values()) if edge is not None and edge.session is session else ()

    def note_blobs(self, session: Session, blobs: Iterable[str]) -> None:
        """Note what an edge can serve."""
        edge = self._edges.get(session.name)
        if edge is not None and edge.session is session:
            edge.blobs = frozenset(blobs)

    def parents(self) -> tuple[ParentOffer, ...]:
        """Return the edges that take newcomers, for `rank_parents`."""
        return tuple(
            ParentOffer(address=edge.session.join.address, holds=edge.blobs, devices=len(edge.devices))
            for edge in self._edges.values()
            if edge.session.join.address
        )
