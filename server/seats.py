"""Who is here: the newest session of every name. A newer session of a device takes the older one's place."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.errors import JoinRefused
from fedcore.profile import DeviceProfile
from protos.values import Join
from server.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The last session of a name: whose, its own epoch, and the number the round machine knows it by."""

    device_uuid: str
    epoch: int
    number: int


class Seats:
    """Sessions by name, and the profiles of every device that has been here. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.profiles: dict[str, DeviceProfile] = {}
        self._sessions: dict[str, Session] = {}
        self._known: dict[str, _Known] = {}

    def __iter__(self) -> Iterator[Session]:
        """Iterate over a copy: sessions may leave meanwhile."""
        return iter(list(self._sessions.values()))

    def next_number(self, join: Join) -> int:
        """The number of the session this join would open; raises JoinRefused for a stale or a second device."""
        known = self._known.get(join.name)
        if known is None:
            return 1
        if known.device_uuid != join.device_uuid and join.name in self._sessions:
            raise JoinRefused(f"another device named {join.name} is connected; give every device its own name")
        if known.device_uuid == join.device_uuid and join.epoch <= known.epoch:
            raise JoinRefused(f"{join.name}: a newer session of this device is known; this one is stale")
        return known.number + 1

    def take(self, session: Session, number: int) -> None:
        """Seat a session; an older one of its name is closed."""
        join = session.join
        older = self._sessions.get(join.name)
        if older is not None:
            older.close()
        self._sessions[join.name] = session
        self._known[join.name] = _Known(device_uuid=join.device_uuid, epoch=join.epoch, number=number)
        if join.profile is not None:
            self.profiles[join.name] = join.profile

    def leave(self, session: Session) -> bool:
        """Free the seat of `session`; False where another one has it."""
        if not self.holds(session):
            return False
        del self._sessions[session.name]
        return True

    def holds(self, session: Session) -> bool:
        """Whether `session` is its name's newest, and open."""
        return self._sessions.get(session.name) is session

    def find(self, name: str) -> Session | None:
        """The open session of a name."""
        return self._sessions.get(name)

    def number(self, name: str) -> int:
        """The number of the last session of a name that has been here."""
        return self._known[name].number

    def clear(self) -> None:
        """Free every seat."""
        self._sessions.clear()
