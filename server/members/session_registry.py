"""The current session of every name. A newer session of a device replaces the older one."""

from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Join
from fedcore.server.members.sessions import AnySession, RelayedSession


@dataclass(frozen=True, slots=True, kw_only=True)
class _LastSession:
    """The last session of a name: its device and epoch, and its number in the round machine."""

    device_uuid: str
    epoch: int
    number: int


class SessionRegistry:
    """Sessions by name, and the profiles of all devices that have joined. Lives on the event loop."""

    def __init__(self) -> None:
        """Begin empty."""
        self.profiles: dict[str, DeviceProfile] = {}
        self._sessions: dict[str, AnySession] = {}
        self._last_sessions: dict[str, _LastSession] = {}

    def __iter__(self) -> Iterator[AnySession]:
        """Iterate over a copy, because sessions may leave during the iteration."""
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        """Number of current sessions."""
        return len(self._sessions)

    def next_number(self, join: Join, *, presented: bool = False) -> int:
        """Return the number of the session that this join would open.

        Raises JoinRefused for a stale session, or for a second device with the same name. A device that an edge
        `presented` may have its last epoch, because an edge sends the same joins again after its own stream broke; but
        not while the device has a session.
        """
        last = self._last_sessions.get(join.name)
        if last is None:
            return 1
        here = join.name in self._sessions
        if last.device_uuid != join.device_uuid and here:
            raise JoinRefused(f"another device named {join.name} is connected; give every device its own name")
        again = presented and not here and join.epoch == last.epoch
        if last.device_uuid == join.device_uuid and join.epoch <= last.epoch and not again:
            raise JoinRefused(f"{join.name}: a newer session of this device is known; this one is stale")
        return last.number + 1

    def register(self, session: AnySession) -> AnySession | None:
        """Make a session the current one of its name; close and return an older one.

        Raises JoinRefused as `next_number` does.
        """
        join = session.join
        number = self.next_number(join, presented=isinstance(session, RelayedSession))
        older = self._sessions.get(join.name)
        if older is not None:
            older.close()
        self._sessions[join.name] = session
        self._last_sessions[join.name] = _LastSession(device_uuid=join.device_uuid, epoch=join.epoch, number=number)
        if join.profile is not None:
            self.profiles[join.name] = join.profile
        return older

    def remove(self, session: AnySession) -> bool:
        """Remove a session; return False if it is not the current one of its name."""
        if not self.is_current(session):
            return False
        del self._sessions[session.name]
        return True

    def is_current(self, session: AnySession) -> bool:
        """Whether this is the newest session of its name, and open."""
        return self._sessions.get(session.name) is session

    def find(self, name: str) -> AnySession | None:
        """Return the current session of a name."""
        return self._sessions.get(name)

    def number(self, name: str) -> int:
        """Return the number of the last session of a name, which may have ended."""
        return self._last_sessions[name].number

    def clear(self) -> None:
        """Remove every session."""
        self._sessions.clear()
