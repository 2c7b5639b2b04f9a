"""The list of revoked certificates in force at one server: from crl.pem at a coordinator, from above at an edge."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cryptography import x509

from fedcore.core.errors import CertificateError
from fedcore.server.members.sessions import Session
from fedcore.storage.pki.authority import CRL
from fedcore.storage.pki.certificates import Identity, TlsMaterial
from fedcore.storage.pki.revocation import RevocationList, read_list, write_list


class RevocationWatch:
    """The list in force. Lives on the event loop. With `ca` None, for no TLS, it watches nothing."""

    def __init__(self, ca: bytes | None = None, file: Path | None = None) -> None:
        """Begin with the empty list; `file` is read by `refresh` and written by `install`."""
        self._ca = None if ca is None else x509.load_pem_x509_certificate(ca)
        self._file = file
        self._stamp: tuple[int, ...] | None = None  # time, size and inode of the file at the last look
        self.current = RevocationList()

    def refresh(self) -> bool:
        """Read the file if it has changed; return whether another list is in force now.

        A missing or deleted file changes nothing. If the file is unusable, raises CertificateError once for every state
        of the file; the list in force stays.
        """
        if self._ca is None or self._file is None:
            return False
        try:
            stat = self._file.stat()
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
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
        """Put a list from above into force and store it for the next start; False if it is not newer.

        Raises CertificateError for an older list or one of another authority, OSError if the file cannot be written.
        """
        if self._ca is None or not self._put_in_force(read_list(crl, self._ca)):
            return False
        if self._file is not None:
            write_list(self._file, self.current)
        return True

    def check(self, identity: Identity | None) -> None:
        """Raise CertificateError if this certificate is revoked; None means no TLS."""
        if identity is not None:
            self.current.check(identity)

    def revoked(self, sessions: Iterable[Session]) -> Iterator[tuple[Session, CertificateError]]:
        """Yield every session with a revoked certificate, and the error that says so."""
        for session in sessions:
            try:
                self.check(session.identity)
            except CertificateError as error:
                yield session, error

    def _put_in_force(self, candidate: RevocationList) -> bool:
        number = candidate.number
        if number < self.current.number:
            raise CertificateError(
                f"the revocation list has number {number}, older than {self.current.number}, which stays in force"
            )
        newer = number > self.current.number
        self.current = candidate if newer else self.current
        return newer


def revocations_in(certs: Path | None, tls: TlsMaterial | None) -> RevocationWatch:
    """Watch crl.pem in a server's folder of certificates; nothing without TLS."""
    if certs is None or tls is None:
        return RevocationWatch()
    return RevocationWatch(tls.ca, certs / CRL)
