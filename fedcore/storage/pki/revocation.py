"""Revocation: the certificates that are no longer valid, as an X.509 CRL that the authority signs.

`revoke` writes CERTS/crl.pem from the authority's record. Any server that has the authority's certificate can verify
it, so people may copy it and servers pass it on. Numbers rise: the list with the highest number is in force. A list
never expires, so that it need not be published again every week (RFC 5280 requires a nextUpdate: it is set to the
longest life of a leaf).
"""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.errors import CertificateError
from fedcore.storage.atomic import write_atomic
from fedcore.storage.pki.authority import CRL, load_signer, utc_now
from fedcore.storage.pki.authority_record import AuthorityRecord, IssuedCertificate, record_transaction
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.signing import Signer

MAX_CRL_BYTES = 3 << 20  # about 80,000 certificates; a list travels inside one message
_NEXT = datetime.timedelta(days=825)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """Revoked serial numbers and the time of their revocation; number 0 is the empty list before the first one."""

    number: int = 0
    revoked: Mapping[int, datetime.datetime] = field(default_factory=dict)
    der: bytes = field(default=b"", repr=False)

    def check(self, identity: Identity) -> None:
        """Raise CertificateError where this certificate is revoked."""
        since = self.revoked.get(identity.serial)
        if since is not None:
            raise CertificateError(
                f"the certificate of {identity} (serial {identity.serial:x}) was revoked on "
                f"{since:%Y-%m-%d %H:%M} UTC; ask for a join token and enrol again"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationResult:
    """The outcome of a revocation: the certificates it revoked, and the path of crl.pem."""

    certificates: tuple[IssuedCertificate, ...]
    tokens: int  # unused tokens of the same identity, which are withdrawn too
    path: Path


def revoke(folder: Path, chosen: str | int, *, now: datetime.datetime | None = None) -> RevocationResult:
    """Revoke certificates of the authority in `folder` and write its crl.pem anew.

    `chosen` is a serial number; or NAME, or KIND:NAME where several kinds have that name. A name revokes all of its
    certificates so far and withdraws its unused tokens; a machine that enrols later under the same name gets a new,
    valid certificate. Raises CertificateError where nothing matches, OSError where crl.pem cannot be written.
    """
    signer, moment = load_signer(folder), now or utc_now()
    now_s = moment.timestamp()
    with record_transaction(folder) as record:
        certificates = _matching(record, chosen, folder)
        for certificate in certificates:
            record.revoke(certificate.serial, now_s)
        tokens = record.open_tokens(now_s, certificates[0].identity) if isinstance(chosen, str) else ()
        for token in tokens:
            record.withdraw_token(token.id)
    # A second transaction: the record must be durable before a list is published, even if this process dies here.
    with record_transaction(folder) as record:
        path = _write_list(folder, signer, record, moment)
    return RevocationResult(certificates=certificates, tokens=len(tokens), path=path)


def read_list(data: bytes, ca: x509.Certificate) -> RevocationList:
    """Return the list in a CRL (PEM or DER); raises CertificateError where it is none, or `ca` has not signed it."""
    if len(data) > MAX_CRL_BYTES:
        raise CertificateError(f"the revocation list has {len(data)} bytes, expected at most {MAX_CRL_BYTES}")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        revoked = {entry.serial_number: entry.revocation_date_utc for entry in crl}
    except (ValueError, x509.ExtensionNotFound):
        raise CertificateError("not an X.509 revocation list with a number; write it again: fedcore revoke") from None
    if not _signed(crl, ca):
        raise CertificateError("the revocation list is not signed by this authority; copy crl.pem and ca.pem again")
    return RevocationList(number=number, revoked=revoked, der=crl.public_bytes(Encoding.DER))


def write_list(path: Path, revocations: RevocationList) -> None:
    """Write a list as crl.pem; raises OSError as the file system does."""
    crl = x509.load_der_x509_crl(revocations.der)
    write_atomic(path, crl.public_bytes(Encoding.PEM), mode=0o644, durable=True)


def _matching(record: AuthorityRecord, chosen: str | int, folder: Path) -> tuple[IssuedCertificate, ...]:
    if isinstance(chosen, int):
        certificate = record.certificate(chosen)
        if certificate is None:
            raise CertificateError(f"{folder} has issued no certificate of serial {chosen:x}; see fedcore certs --list")
        return (certificate,)
    certificates = tuple(
        certificate
        for certificate in record.certificates()
        if chosen in (certificate.identity.name, str(certificate.identity))
    )
    kinds = sorted({str(certificate.identity) for certificate in certificates})
    if not certificates:
        raise CertificateError(f"{folder} has issued no certificate for {chosen!r}; see fedcore certs {folder} --list")
    if len(kinds) > 1:
        raise CertificateError(f"{chosen!r} may be any of {', '.join(kinds)}; say which")
    return certificates


def _write_list(folder: Path, signer: Signer, record: AuthorityRecord, now: datetime.datetime) -> Path:
    in_list = [certificate for certificate in record.certificates() if _belongs_in_list(certificate, now)]
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(now)
        .next_update(now + _NEXT)
        .add_extension(x509.CRLNumber(record.next_list(now.timestamp())), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.key.public_key()), critical=False)
    )
    for entry in _entries(in_list):
        builder = builder.add_revoked_certificate(entry)
    path = folder / CRL
    data = builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    write_atomic(path, data, mode=0o644, durable=True)
    return path


def _belongs_in_list(certificate: IssuedCertificate, now: datetime.datetime) -> bool:
    """Return whether a list must name a certificate: servers refuse an expired one anyway."""
    return certificate.revoked_s is not None and certificate.not_after_s > now.timestamp()


def _entries(certificates: Iterable[IssuedCertificate]) -> Iterable[x509.RevokedCertificate]:
    for certificate in certificates:
        since = datetime.datetime.fromtimestamp(certificate.revoked_s or 0.0, datetime.timezone.utc)
        yield x509.RevokedCertificateBuilder().serial_number(certificate.serial).revocation_date(since).build()


def _signed(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    key = ca.public_key()
    try:
        return isinstance(key, ec.EllipticCurvePublicKey) and crl.issuer == ca.subject and crl.is_signature_valid(key)
    except (InvalidSignature, ValueError, TypeError):
        return False
