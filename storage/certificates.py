"""Certificates for mutual TLS: an own authority, and leaves that name who they are.

A leaf's Common Name is `kind:name` (`device:agx-0`, `class:agx`, `evaluator:eval`, `coordinator:main`, `edge:north`).
Servers (coordinator, edge) also carry the host names and addresses they may be reached at. A folder holds ca.pem and
ca.key, and NAME.pem and NAME.key of every leaf; a machine needs ca.pem and its own pair only.
"""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcore.errors import CertificateError
from fedcore.profile import NAME
from storage.pem_files import (
    certificate_pem,
    check_private,
    load_certificate,
    load_key,
    make_private_folder,
    write_pair,
)

Kind = Literal["coordinator", "device", "class", "evaluator", "edge"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SERVERS: tuple[Kind, ...] = ("coordinator", "edge")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VALID = datetime.timedelta(days=825)  # the longest that common TLS stacks accept
_CLOCK_SKEW = datetime.timedelta(hours=1)  # devices' clocks are not exact
_MAX_COMMON_NAME = 64  # RFC 5280, ub-common-name
_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whom a certificate names."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsMaterial:
    """What one end of a mutual TLS connection needs, as PEM bytes."""

    ca: bytes
    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"TlsMaterial({read_identity(self.certificate)})"  # a key never reaches a log


def create_authority(folder: Path, *, force: bool = False, now: datetime.datetime | None = None) -> Path:
    """Make a certificate authority in `folder` (created with mode 0700); return the path of its ca.pem.

    Raises CertificateError when there is one already, unless `force`: its leaves are worthless afterwards.
    """
    make_private_folder(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcore authority")])
    builder = (
        _builder(subject, subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return write_pair(folder, "ca", builder.sign(key, hashes.SHA256()), key, force)


def issue(
    folder: Path,
    name: str,
    *,
    kind: Kind,
    hosts: Sequence[str] = (),
    force: bool = False,
    now: datetime.datetime | None = None,
) -> Path:
    """Issue a certificate for `kind:name` from the authority in `folder`; return the path of NAME.pem.

    `hosts` are DNS names or IP addresses clients will dial; a coordinator or edge always gets the loopback ones too.
    Raises CertificateError for a bad name, kind or host, a missing authority, and an existing NAME.key unless `force`.
    """
    common_name = _common_name(kind, name)
    ca, ca_key = load_certificate(folder / "ca.pem"), load_key(folder / "ca.key")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    purposes = [] if kind == "coordinator" else [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind in SERVERS:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    builder = (
        _builder(subject, ca.subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    reached_at = dict.fromkeys((*LOOPBACK, *hosts) if kind in SERVERS else hosts)
    if reached_at:
        names = x509.SubjectAlternativeName([_general_name(host) for host in reached_at])
        builder = builder.add_extension(names, critical=False)
    return write_pair(folder, name, builder.sign(ca_key, hashes.SHA256()), key, force)


def load_material(
    folder: Path, name: str, *, kinds: Sequence[Kind] = KINDS, now: datetime.datetime | None = None
) -> TlsMaterial:
    """Load ca.pem, NAME.pem and NAME.key from `folder`, having checked that they belong together.

    Raises CertificateError for a missing or unreadable file, a key that others may read, a certificate that is expired
    or not yet valid, not of one of `kinds`, not of this key, or not signed by this authority.
    """
    check_private(folder / f"{name}.key")
    ca, leaf = load_certificate(folder / "ca.pem"), load_certificate(folder / f"{name}.pem")
    identity = read_identity(certificate_pem(leaf))
    if identity.kind not in kinds:
        raise CertificateError(
            f"{folder / name}.pem is for {identity}, expected kind {' or '.join(kinds)}; issue one with `fedcore certs`"
        )
    now = now or datetime.datetime.now(datetime.UTC)
    _check_validity(folder / "ca.pem", ca, now)
    _check_validity(folder / f"{name}.pem", leaf, now)
    if leaf.public_key() != load_key(folder / f"{name}.key").public_key():
        raise CertificateError(f"{folder / name}.key does not belong to {name}.pem; copy both from one place again")
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        raise CertificateError(f"{folder / name}.pem was not signed by {folder / 'ca.pem'}; copy both again") from None
    return TlsMaterial(
        ca=certificate_pem(ca), certificate=certificate_pem(leaf), key=(folder / f"{name}.key").read_bytes()
    )


def read_identity(pem: bytes) -> Identity:
    """Return whom a PEM certificate names; raises CertificateError when that is nobody of ours."""
    try:
        attributes = x509.load_pem_x509_certificate(pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        raise CertificateError("expected a PEM certificate, got something else") from None
    common_name = str(attributes[0].value) if len(attributes) == 1 else ""
    kind, _, name = common_name.partition(":")
    for known in KINDS:
        if kind == known and NAME.fullmatch(name):
            return Identity(kind=known, name=name)
    raise CertificateError(
        f"the certificate names {common_name!r}, expected kind:name with kind one of {', '.join(KINDS)}; "
        "issue it with `fedcore certs`"
    )


def _common_name(kind: str, name: str) -> str:
    if kind not in KINDS:
        raise CertificateError(f"unknown certificate kind {kind!r}; expected one of {', '.join(KINDS)}")
    if not NAME.fullmatch(name) or name == "ca":
        raise CertificateError(f"certificate name {name!r}: expected 1-63 characters of a-z, 0-9 and '-', and not 'ca'")
    longest = _MAX_COMMON_NAME - len(kind) - 1
    if len(name) > longest:
        raise CertificateError(f"certificate name {name!r} is too long for kind {kind}: at most {longest} characters")
    return f"{kind}:{name}"


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in host.split(".")):
        raise CertificateError(f"host {host!r}: expected a DNS name or an IP address, without a port")
    return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime | None
) -> x509.CertificateBuilder:
    start = (now or datetime.datetime.now(datetime.UTC)) - _CLOCK_SKEW
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _VALID)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _check_validity(path: Path, certificate: x509.Certificate, now: datetime.datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only; check this clock"
        )
    if now >= certificate.not_valid_after_utc:
        raise CertificateError(
            f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; issue it again with `fedcore certs --force`"
        )
