"""Keep revoked certificates out of one server: check every newcomer, and cut off every member on the list."""

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
    """Enforces the list of one server. Lives on the event loop.

    `sessions` returns the sessions on streams of their own; `evict` ends a session that was cut off. `changed` is
    called when another list is in force, `refused` with the reason why a list is unusable.
    """

    def __init__(
        self,
        watch: RevocationWatch,
        *,
        sessions: Callable[[], Iterable[Session]],
        evict: Callable[[Session], None],
        changed: Callable[[], None],
        refused: Callable[[str], None],
    ) -> None:
        """Wire up; nothing looks for lists before `begin`."""
        self.watch = watch
        self._sessions, self._evict, self._changed, self._refused = sessions, evict, changed, refused
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look for a newer list, and for sessions on the list in force."""
        self._renew()
        self._sweep()  # also without a newer list: a device may have joined during the change

    def begin(self, tasks: Tasks, lease_s: float) -> None:
        """Look now and then three times per lease, until `close`."""
        self.look()
        self._timer = tasks.later(lease_s / CHECKS_PER_LEASE, lambda: self.begin(tasks, lease_s))

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def check_certificate(self, identity: Identity | None) -> None:
        """Raise CertificateError if this certificate is revoked, after a look for a newer list."""
        self._renew()
        self.watch.check(identity)

    def install(self, crl: bytes) -> None:
        """Put a list from the tier above into force."""
        try:
            if self.watch.install(crl):
                self._changed()
                self._sweep()
        except (CertificateError, OSError) as error:
            self._refused(str(error))

    def send_list(self, edge: Session) -> None:
        """Send the list in force to an edge, if it takes lists."""
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
            self._evict(session)
