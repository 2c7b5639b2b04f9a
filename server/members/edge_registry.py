"""The current session of every edge, the devices below the edge, and the blobs that it can serve by itself."""

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
    """Edge sessions by name. An edge may have the same name as a device. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin empty."""
        self._sessions = SessionRegistry()
        self._edges: dict[str, _Edge] = {}

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy of the edge sessions."""
        return iter([edge.session for edge in self._edges.values()])

    def check(self, join: Join) -> None:
        """Raise JoinRefused for a stale session, or for a second edge with the same name."""
        self._sessions.next_number(join)

    def register(self, session: Session) -> tuple[RelayedSession, ...]:
        """Make a session the current one of its edge; return the devices below the older session, which end with it.

        Raises JoinRefused as `check` does.
        """
        self._sessions.register(session)
        older = self._edges.get(session.name)
        self._edges[session.name] = _Edge(session)
        return () if older is None else tuple(older.devices.values())

    def remove(self, session: Session) -> tuple[RelayedSession, ...]:
        """Remove an edge's session; return the devices below it, none if a newer session is current."""
        if not self._sessions.remove(session):
            return ()
        return tuple(self._edges.pop(session.name).devices.values())

    def is_current(self, session: Session) -> bool:
        """Whether this is the newest session of its edge, and open."""
        return self._sessions.is_current(session)

    def find(self, name: str) -> Session | None:
        """Return the current session of an edge."""
        edge = self._edges.get(name)
        return None if edge is None else edge.session

    def add_device(self, device: RelayedSession) -> None:
        """Add a device below the edge of its stream."""
        self._edges[device.stream.name].devices[device.name] = device

    def drop_device(self, device: RelayedSession) -> None:
        """Remove a device below an edge."""
        edge = self._edges.get(device.stream.name)
        if edge is not None and edge.devices.get(device.name) is device:
            del edge.devices[device.name]

    def device_below(self, session: Session, name: str) -> RelayedSession | None:
        """Return the device with this name below an edge."""
        edge = self._edges.get(session.name)
        return edge.devices.get(name) if edge is not None and edge.session is session else None

    def devices_below(self, session: Session) -> tuple[RelayedSession, ...]:
        """Return all devices below an edge."""
        edge = self._edges.get(session.name)
        return tuple(edge.devices.values()) if edge is not None and edge.session is session else ()

    def note_blobs(self, session: Session, blobs: Iterable[str]) -> None:
        """Note which blobs an edge can serve."""
        edge = self._edges.get(session.name)
        if edge is not None and edge.session is session:
            edge.blobs = frozenset(blobs)

    def parents(self) -> tuple[ParentOffer, ...]:
        """Return the edges that accept newcomers, for `rank_parents`."""
        return tuple(
            ParentOffer(address=edge.session.join.address, holds=edge.blobs, devices=len(edge.devices))
            for edge in self._edges.values()
            if edge.session.join.address
        )
