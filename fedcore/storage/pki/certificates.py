"""Certificates for mutual TLS: one private authority, and leaf certificates that carry an identity.

A leaf's Common Name is `kind:name` (`device:agx-0`, `class:agx`, `evaluator:eval`, `coordinator:main`, `edge:north`).
A server's leaf (coordinator, edge) also carries the host names and addresses that clients dial. A folder contains
ca.pem and ca.key, and NAME.pem and NAME.key of every leaf; a machine needs only ca.pem and its own pair.
`fedcore.storage.pki.authority` makes them.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from fedcore.core.contract.profile import NAME
from fedcore.core.errors import CertificateError
from fedcore.storage.pki.pem_files import certificate_pem, check_private, load_certificate, load_key

Kind = Literal["coordinator", "device", "class", "evaluator", "edge"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SERVERS: tuple[Kind, ...] = ("coordinator", "edge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The identity in a certificate. Equality ignores `serial`, the certificate's serial number (0: unknown)."""

    kind: Kind
    name: str
    serial: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """The authority's certificate and the own pair for one end of a mutual TLS connection, as PEM bytes."""

    ca: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"TlsMaterial({read_identity(self.certificate)})"  # a key never reaches a log


def load_material(
    folder: Path, name: str, *, kinds: Sequence[Kind] = KINDS, now: datetime.datetime | None = None
) -> TlsMaterial:
    """Load ca.pem, NAME.pem and NAME.key from `folder` and check that they belong together.

    Raises CertificateError for a missing or unreadable file, for a key that others may read, and for a certificate
    that is expired, not yet valid, of none of `kinds`, of another key, or signed by another authority.
    """
    check_private(folder / f"{name}.key")
    ca, leaf = load_certificate(folder / "ca.pem"), load_certificate(folder / f"{name}.pem")
    identity = read_identity(certificate_pem(leaf))
    if identity.kind not in kinds:
        raise CertificateError(
            f"{folder / name}.pem is for {identity}, expected kind {' or '.join(kinds)}; issue one with `fedcore certs`"
        )
    now = now or datetime.datetime.now(datetime.timezone.utc)
    _check_validity(folder / "ca.pem", ca, now)
    _check_validity(folder / f"{name}.pem", leaf, now)
    if leaf.public_key() != load_key(folder / f"{name}.key").public_key():
        raise CertificateError(f"{folder / name}.key does not belong to {name}.pem; copy both from one place again")
    if not signed_by(leaf, ca):
        raise CertificateError(f"{folder / name}.pem was not signed by {folder / 'ca.pem'}; copy both again")
    return TlsMaterial(
        ca=certificate_pem(ca), certificate=certificate_pem(leaf), key=(folder / f"{name}.key").read_bytes()
    )


def read_identity(pem: bytes) -> Identity:
    """Return the identity in a PEM certificate; raises CertificateError where it carries none of ours."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateError("expected a PEM certificate, got something else") from None
    return certified_identity(certificate)


def certified_identity(certificate: x509.Certificate) -> Identity:
    """Return the identity in a certificate; raises CertificateError where it carries none of ours."""
    attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_name = str(attributes[0].value) if len(attributes) == 1 else ""
    prefix, _, name = common_name.partition(":")
    for kind in KINDS:
        if prefix == kind and NAME.fullmatch(name):
            return Identity(kind=kind, name=name, serial=certificate.serial_number)
    raise CertificateError(
        f"the certificate names {common_name!r}, expected kind:name with kind one of {', '.join(KINDS)}; "
        "issue it with `fedcore certs`"
    )


def check_leaf_name(name: str) -> None:
    """Raise CertificateError for a name no certificate can have: NAME.pem lies beside ca.pem and crl.pem."""
    if not NAME.fullmatch(name) or name in ("ca", "crl"):
        raise CertificateError(
            f"certificate name {name!r}: expected 1-63 characters of a-z, 0-9 and '-', and neither 'ca' nor 'crl'"
        )


def signed_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Return whether `ca` has signed a certificate."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check_validity(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only; check this clock"
        )
    if now >= certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; issue it again with `fedcore certs --force`"
        )
