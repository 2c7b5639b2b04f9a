"""The record of an authority, CERTS/authority.sqlite: certificates it has issued, join tokens, revocations.

One SQLite file of mode 0600: one transaction marks a token as used and records its certificate, whichever process
does so and wherever it dies. The record keeps only the hash of a token's secret. Every piece of work opens the file
and closes it again: no process keeps it open.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.certificates import Identity, Kind, certified_identity

RECORD = "authority.sqlite"
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0  # a transaction takes milliseconds

_SCHEMA = (
    # serial: hex; note: the name a device gave itself; times: seconds since 1970; revoked_s NULL: in force
    """CREATE TABLE certificates (
        serial TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL, note TEXT NOT NULL,
        not_after_s REAL NOT NULL, revoked_s REAL, der BLOB NOT NULL)""",
    # digest: SHA-256 of the secret; hosts: separated by blanks; serial NULL: not used yet
    """CREATE TABLE tokens (
        id TEXT PRIMARY KEY, digest BLOB NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, hosts TEXT NOT NULL,
        expires_s REAL NOT NULL, serial TEXT REFERENCES certificates (serial))""",
    "CREATE TABLE lists (number INTEGER PRIMARY KEY)",  # of revocation lists: the number of the last one written
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate the authority has issued. Times are seconds since 1970; `revoked_s` None: in force."""

    serial: int
    identity: Identity
    note: str
    not_after_s: float
    revoked_s: float | None
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """A join token in the record; `serial` is that of the certificate it brought, None: not used yet."""

    id: str
    digest: bytes
    identity: Identity
    hosts: tuple[str, ...]
    expires_s: float
    serial: int | None


class AuthorityRecord:
    """The record inside one transaction; get one from `record_transaction`."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        """Work on an open transaction."""
        self._sql = sql

    def add_certificate(self, certificate: x509.Certificate, note: str = "") -> None:
        """Add a certificate; call this before handing it out."""
        identity = certified_identity(certificate)
        not_after_s = certificate.not_valid_after_utc.timestamp()
        self._sql.execute(
            "INSERT OR IGNORE INTO certificates VALUES (?, ?, ?, ?, ?, NULL, ?)",
            (
                _hex(certificate.serial_number),
                identity.kind,
                identity.name,
                note,
                not_after_s,
                certificate.public_bytes(Encoding.DER),
            ),
        )

    def certificates(self, identity: Identity | None = None) -> tuple[IssuedCertificate, ...]:
        """Return every certificate, or those of one identity, oldest first."""
        rows = self._sql.execute(
            "SELECT der, note, not_after_s, revoked_s FROM certificates WHERE ? OR (kind = ? AND name = ?) "
            "ORDER BY rowid",
            (identity is None, identity and identity.kind, identity and identity.name),
        )
        return tuple(_issued(*row) for row in rows)

    def certificate(self, serial: int) -> IssuedCertificate | None:
        """Return the certificate of a serial number, None where the record has none."""
        row = self._sql.execute(
            "SELECT der, note, not_after_s, revoked_s FROM certificates WHERE serial = ?", (_hex(serial),)
        ).fetchone()
        return None if row is None else _issued(*row)

    def revoke(self, serial: int, now_s: float) -> None:
        """Mark a certificate as revoked; a second revocation keeps the time of the first."""
        self._sql.execute(
            "UPDATE certificates SET revoked_s = ? WHERE serial = ? AND revoked_s IS NULL", (now_s, _hex(serial))
        )

    def next_list(self, now_s: float) -> int:
        """Return the next revocation list's number: above every earlier one, even where a backup restored this file."""
        (last,) = self._sql.execute("SELECT max(number) FROM lists").fetchone()
        number = max((last or 0) + 1, int(now_s))  # the clock exceeds every number that a backup has forgotten
        self._sql.execute("DELETE FROM lists")
        self._sql.execute("INSERT INTO lists VALUES (?)", (number,))
        return number

    def add_token(self, entry: TokenEntry) -> None:
        """Add a new token."""
        self._sql.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
            (entry.id, entry.digest, entry.identity.kind, entry.identity.name, " ".join(entry.hosts), entry.expires_s),
        )

    def token(self, token_id: str) -> TokenEntry | None:
        """Return the token of an id, None where the record has none."""
        tokens = self._tokens("id = ?", (token_id,))
        return tokens[0] if tokens else None

    def open_tokens(self, now_s: float, identity: Identity | None = None) -> tuple[TokenEntry, ...]:
        """Return the unused and unexpired tokens, all or those for one identity."""
        return self._tokens(
            "serial IS NULL AND expires_s > ? AND (? OR (kind = ? AND name = ?))",
            (now_s, identity is None, identity and identity.kind, identity and identity.name),
        )

    def use_token(self, token_id: str, serial: int) -> None:
        """Mark a token as used for the certificate `serial`; a used token keeps its first certificate."""
        self._sql.execute("UPDATE tokens SET serial = ? WHERE id = ? AND serial IS NULL", (_hex(serial), token_id))

    def withdraw_token(self, token_id: str) -> None:
        """Delete a token unless it has been used: from now on it is unknown."""
        self._sql.execute("DELETE FROM tokens WHERE id = ? AND serial IS NULL", (token_id,))

    def _tokens(self, where: str, values: Sequence[object]) -> tuple[TokenEntry, ...]:
        columns = "id, digest, kind, name, hosts, expires_s, serial"
        rows = self._sql.execute(f"SELECT {columns} FROM tokens WHERE {where} ORDER BY rowid", tuple(values))
        return tuple(
            TokenEntry(
                id=token_id,
                digest=digest,
                identity=Identity(kind=cast(Kind, kind), name=name),
                hosts=tuple(hosts.split()),
                expires_s=expires_s,
                serial=None if serial is None else int(serial, 16),
            )
            for token_id, digest, kind, name, hosts, expires_s, serial in rows
        )


@contextmanager
def record_transaction(folder: Path) -> Iterator[AuthorityRecord]:
    """Open a transaction on the record of the authority in `folder`: durable once the block ends, undone if it raises.

    Other processes wait until it ends. Raises CertificateError where the record cannot be read or written.
    """
    path = folder / RECORD
    try:
        path.touch(mode=0o600)
        sql = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as cause:
        raise _refused(path, cause) from None
    try:
        # EXTRA also syncs the deletion of the journal, and only that makes the commit durable: a used token must not
        # become usable again after a power cut.
        sql.execute("PRAGMA synchronous = EXTRA")
        sql.execute("BEGIN IMMEDIATE")
        _begin(sql, folder)
        yield AuthorityRecord(sql)
        sql.execute("COMMIT")
    except sqlite3.Error as cause:
        raise _refused(path, cause) from None
    finally:
        sql.close()  # rolls back what was not committed


def _begin(sql: sqlite3.Connection, folder: Path) -> None:
    (version,) = sql.execute("PRAGMA user_version").fetchone()
    if version == SCHEMA_VERSION:
        return
    if version:
        raise CertificateError(
            f"{folder / RECORD} has schema {version}, this fedcore knows {SCHEMA_VERSION}; use the one that wrote it"
        )
    for statement in _SCHEMA:
        sql.execute(statement)
    for path in sorted(folder.glob("*.pem")):  # certificates of folders older than the record
        try:
            AuthorityRecord(sql).add_certificate(x509.load_pem_x509_certificate(path.read_bytes()))
        except (ValueError, CertificateError):  # the authority's own certificate, or a file of another program
            continue


def _issued(der: bytes, note: str, not_after_s: float, revoked_s: float | None) -> IssuedCertificate:
    certificate = x509.load_der_x509_certificate(der)
    return IssuedCertificate(
        serial=certificate.serial_number,
        identity=certified_identity(certificate),
        note=note,
        not_after_s=not_after_s,
        revoked_s=revoked_s,
        certificate=certificate,
    )


def _hex(serial: int) -> str:
    return f"{serial:x}"


def _refused(path: Path, cause: Exception) -> CertificateError:
    return CertificateError(f"{path}: {cause}; check that this folder is the authority's and can be written")
