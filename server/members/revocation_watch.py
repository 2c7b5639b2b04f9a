"""The list of revoked certificates in force at one server: out of crl.pem at a coordinator, from above at an edge."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509

from fedcore.core.errors import CertificateError
from fedcore.server.members.sessions import Session
from fedcore.storage.pki.authority import CRL
from fedcore.storage.pki.certificates import Identity, TlsMaterial
from fedcore.storage.pki.revocation import RevocationList, read_list, write_list


class RevocationWatch:
    """Lives on the event loop. `ca` None, where there is no TLS, watches nothing."""

    def __init__(self, ca: bytes | None = None, file: Path | None = None) -> None:
        """Begin with the empty list; `file` is read by `refresh` and written by `install`."""
        self._ca = None if ca is None else x509.load_pem_x509_certificate(ca)
        self._file = file
        self._seen: tuple[int, ...] | None = None  # of the file, as it was last looked at
        self.current = RevocationList()

    def refresh(self) -> bool:
        """Read the file where it has changed; True where another list is in force now.

        A file that is not there, or is gone, changes nothing. Raises CertificateError, once for every state of the
        file, where it cannot be used; the list that was in force stays.
        """
        if self._ca is None or self._file is None:
            return False
        try:
            stat = self._file.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen == self._seen:
                return False
            self._seen = seen
            data = self._file.read_bytes()
        except FileNotFoundError:
            return False
        except OSError as cause:
            raise CertificateError(f"{self._file} cannot be read: {cause.strerror or cause}") from None
        try:
            return self._put_in_force(read_list(data, self._ca))
        except CertificateError as error:
            raise CertificateError(f"{self._file}: {error}") from None

    def install(self, crl: bytes) -> bool:
        """Put a list from above in force and keep it for the next start; False where there is a newer one already.

        Raises CertificateError where it is not one of this authority, OSError where the file cannot be written.
        """
        if self._ca is None or not self._put_in_force(read_list(crl, self._ca)):
            return False
        if self._file is not None:
            write_list(self._file, self.current)
        return True

    def check(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate is revoked; None came without TLS."""
        if identity is not None:
            self.current.check(identity)

    def revoked(self, sessions: Iterable[Session]) -> Iterator[tuple[Session, CertificateError]]:
        """Yield every session whose certificate is revoked, and the error that says so."""
        for session in sessions:
            try:
                self.check(session.identity)
            except CertificateError as error:
                yield session, error

    def _put_in_force(self, given: RevocationList) -> bool:
        if given.number < self.current.number:
            raise CertificateError(
                f"the revocation list has number {given.number}, older than {self.current.number}, which stays in force"
            )
        newer = given.number > self.current.number
        self.current = given if newer else self.current
        return newer


def revocations_in(certs: Path | None, tls: TlsMaterial | None) -> RevocationWatch:
    """Watch crl.pem in the folder a server has its certificates in; nothing without TLS."""
    if certs is None or tls is None:
        return RevocationWatch()
    return RevocationWatch(tls.ca, certs / CRL)
