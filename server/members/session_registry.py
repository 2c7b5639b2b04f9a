"""Who is here: the newest session of every name. A newer session of a device takes the older one's place."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Join
from fedcore.server.members.sessions import AnySession


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The last session of a name: whose, its own epoch, and the number the round machine knows it by."""

    device_uuid: str
    epoch: int
    number: int


class SessionRegistry:
    """Sessions by name, and the profiles of every device that has been here. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self.profiles: dict[str, DeviceProfile] = {}
        self._sessions: dict[str, AnySession] = {}
        self._known: dict[str, _Known] = {}

    def __iter__(self) -> Iterator[AnySession]:
        """Iterate over a copy: sessions may leave meanwhile."""
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        """Sessions that are here."""
        return len(self._sessions)

    def next_number(self, join: Join, *, presented: bool = False) -> int:
        """The number of the session this join would open; raises JoinRefused for a stale or a second device.

        `presented` by an edge, which says the same join again after its own stream broke: then the epoch may be the
        last one, as long as the device is not seated elsewhere by now.
        """
        known = self._known.get(join.name)
        if known is None:
            return 1
        here = join.name in self._sessions
        if known.device_uuid != join.device_uuid and here:
            raise JoinRefused(f"another device named {join.name} is connected; give every device its own name")
        again = presented and not here and join.epoch == known.epoch
        if known.device_uuid == join.device_uuid and join.epoch <= known.epoch and not again:
            raise JoinRefused(f"{join.name}: a newer session of this device is known; this one is stale")
        return known.number + 1

    def take(self, session: AnySession, number: int) -> AnySession | None:
        """Seat a session; an older one of its name is closed and returned."""
        join = session.join
        older = self._sessions.get(join.name)
        if older is not None:
            older.close()
        self._sessions[join.name] = session
        self._known[join.name] = _Known(device_uuid=join.device_uuid, epoch=join.epoch, number=number)
        if join.profile is not None:
            self.profiles[join.name] = join.profile
        return older

    def leave(self, session: AnySession) -> bool:
        """Free the seat of `session`; False where another one has it."""
        if not self.holds(session):
            return False
        del self._sessions[session.name]
        return True

    def holds(self, session: AnySession) -> bool:
        """Whether `session` is its name's newest, and open."""
        return self._sessions.get(session.name) is session

    def find(self, name: str) -> AnySession | None:
        """The open session of a name."""
        return self._sessions.get(name)

    def number(self, name: str) -> int:
        """The number of the last session of a name that has been here."""
        return self._known[name].number

    def clear(self) -> None:
        """Free every seat."""
        self._sessions.clear()
