"""Keeps revoked certificates out of one server: checks whoever comes, and cuts off whoever is here."""

import asyncio
from collections.abc import Callable, Iterable

from fedcore.core.errors import CertificateError
from fedcore.protos.tier_values import Revocations
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import Session
from fedcore.server.process.tasks import Tasks
from fedcore.storage.pki.certificates import Identity

CHECKS_PER_LEASE = 3


class RevocationGuard:
    """Lives on the event loop. `sessions` are those on streams of their own; `expel` forgets one that was cut off.

    `changed` hears that another list is in force, `refused` why one is not.
    """

    def __init__(
        self,
        watch: RevocationWatch,
        *,
        sessions: Callable[[], Iterable[Session]],
        expel: Callable[[Session], None],
        changed: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        """Wire up; nothing is looked for by itself before `begin`."""
        self.watch = watch
        self._sessions, self._expel, self._changed, self._refused = sessions, expel, changed, refused
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look for a newer list, and for sessions it names."""
        self._renew()
        self._sweep()  # also without a newer list: somebody may have been let in while it changed

    def begin(self, tasks: Tasks, lease_s: float) -> None:
        """Look three times a lease, until `close`."""
        self.look()
        self._timer = tasks.later(lease_s / CHECKS_PER_LEASE, lambda: self.begin(tasks, lease_s))

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def vouch(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate has been revoked; a list that came this moment counts."""
        self._renew()
        self.watch.check(identity)

    def take(self, crl: bytes) -> None:
        """Put a list from the tier above in force."""
        try:
            if self.watch.take(crl):
                self._changed()
                self._sweep()
        except (CertificateError, OSError) as error:
            self._refused(str(error))

    def inform(self, edge: Session) -> None:
        """Send the list in force to an edge, where it takes lists."""
        current = self.watch.current
        if edge.join.takes_revocations and current.number:
            edge.send(Revocations(crl=current.der))

    def _renew(self) -> None:
        try:
            if self.watch.refresh():
                self._changed()
                self._sweep()
        except CertificateError as error:
            self._refused(str(error))

    def _sweep(self) -> None:
        for session, fault in list(self.watch.revoked(self._sessions())):
            session.cut_off(fault)
            self._expel(session)
