"""Revocation: which certificates hold no more, as an X.509 CRL that the authority signs.

CERTS/crl.pem is made from the authority's record; any server that has the authority's certificate can check it, so it
may be copied and handed on. Numbers rise: the list with the higher one is in force. An old list is no error, however
old: nobody need publish one every week (RFC 5280 wants a nextUpdate, which is set to the longest life of a leaf).
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
from fedcore.storage.pki.authority_record import AuthorityRecord, Issued, recording
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.signing import Signer

MAX_CRL_BYTES = 3 << 20  # it travels inside one message; about 80,000 certificates
_NEXT = datetime.timedelta(days=825)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """Revoked serial numbers and since when; number 0 is the empty list of who has never seen one."""

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
class Revoked:
    """What a revocation did."""

    certificates: tuple[Issued, ...]
    tokens: int  # that were open for the same identity, and are withdrawn
    path: Path


def revoke(folder: Path, chosen: str | int, *, now: datetime.datetime | None = None) -> Revoked:
    """Revoke certificates of the authority in `folder` and write its crl.pem anew.

    `chosen` is a serial number; or NAME, or KIND:NAME where several kinds have that name: then all of its
    certificates, and its open tokens too. Who is enrolled later under the same name has a new certificate, which
    holds. Raises CertificateError where nothing fits, and OSError where crl.pem cannot be written.
    """
    signer, moment = load_signer(folder), now or utc_now()
    now_s = moment.timestamp()
    with recording(folder) as record:
        fitting = _fitting(record, chosen, folder)
        for each in fitting:
            record.revoke(each.serial, now_s)
        tokens = record.open_tokens(now_s, fitting[0].identity) if isinstance(chosen, str) else ()
        for token in tokens:
            record.withdraw_token(token.id)
    with recording(folder) as record:  # apart: what a list says must be on record even where this process dies here
        path = _write_list(folder, signer, record, moment)
    return Revoked(certificates=fitting, tokens=len(tokens), path=path)


def read_list(data: bytes, ca: x509.Certificate) -> RevocationList:
    """Return the list in a CRL, PEM or DER; raises CertificateError where it is none, or not signed by `ca`."""
    if len(data) > MAX_CRL_BYTES:
        raise CertificateError(f"the revocation list has {len(data)} bytes, expected at most {MAX_CRL_BYTES}")
    try:
        pem = data.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        revoked = {each.serial_number: each.revocation_date_utc for each in crl}
    except (ValueError, x509.ExtensionNotFound):
        raise CertificateError("not an X.509 revocation list with a number; write it again: fedcore revoke") from None
    if not _signed(crl, ca):
        raise CertificateError("the revocation list is not signed by this authority; copy crl.pem and ca.pem again")
    return RevocationList(number=number, revoked=revoked, der=crl.public_bytes(Encoding.DER))


def write_list(path: Path, revocations: RevocationList) -> None:
    """Write a list as crl.pem; raises OSError as the file system does."""
    crl = x509.load_der_x509_crl(revocations.der)
    write_atomic(path, crl.public_bytes(Encoding.PEM), durable=True)


def _fitting(record: AuthorityRecord, chosen: str | int, folder: Path) -> tuple[Issued, ...]:
    if isinstance(chosen, int):
        found = record.certificate(chosen)
        if found is None:
            raise CertificateError(f"{folder} has issued no certificate of serial {chosen:x}; see fedcore certs --list")
        return (found,)
    named = [each for each in record.certificates() if chosen in (each.identity.name, str(each.identity))]
    kinds = sorted({str(each.identity) for each in named})
    if not named:
        raise CertificateError(f"{folder} has issued no certificate for {chosen!r}; see fedcore certs {folder} --list")
    if len(kinds) > 1:
        raise CertificateError(f"{chosen!r} may be any of {', '.join(kinds)}; say which")
    return tuple(named)


def _write_list(folder: Path, signer: Signer, record: AuthorityRecord, now: datetime.datetime) -> Path:
    in_list = [each for each in record.certificates() if _listed(each, now)]
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
    write_atomic(path, data, durable=True)
    return path


def _listed(each: Issued, now: datetime.datetime) -> bool:
    """Whether a list must name a certificate: one that has expired is refused anyway."""
    return each.revoked_s is not None and each.not_after_s > now.timestamp()


def _entries(certificates: Iterable[Issued]) -> Iterable[x509.RevokedCertificate]:
    for each in certificates:
        since = datetime.datetime.fromtimestamp(each.revoked_s or 0.0, datetime.UTC)
        yield x509.RevokedCertificateBuilder().serial_number(each.serial).revocation_date(since).build()


def _signed(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    key = ca.public_key()
    try:
        return isinstance(key, ec.EllipticCurvePublicKey) and crl.issuer == ca.subject and crl.is_signature_valid(key)
    except (InvalidSignature, ValueError, TypeError):
        return False
