"""The X.509 certificates of this authority: its own, and leaves named `kind:name`. Pure: no files."""

import datetime
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.certificates import KINDS, SERVERS, check_leaf_name

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_VALID = datetime.timedelta(days=825)  # the longest that common TLS stacks accept
_CLOCK_SKEW = datetime.timedelta(hours=1)  # a device's clock may be slow: validity begins earlier
_MAX_COMMON_NAME = 64  # RFC 5280, ub-common-name
_DNS_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """An authority's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def new_signer(now: datetime.datetime) -> Signer:
    """Return a new authority; it signs leaves and revocation lists, but no other authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcore authority")])
    builder = (
        _builder(subject, subject, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Signer(certificate=builder.sign(key, hashes.SHA256()), key=key)


def sign_leaf(
    signer: Signer,
    public_key: ec.EllipticCurvePublicKey,
    *,
    kind: str,
    name: str,
    hosts: Sequence[str] = (),
    now: datetime.datetime,
) -> x509.Certificate:
    """Return the certificate that binds `public_key` to `kind:name`.

    `hosts` are DNS names or IP addresses that clients dial; a coordinator or edge always gets the loopback ones too.
    Raises CertificateError for a bad name, kind or host.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(kind, name))])
    purposes = [] if kind == "coordinator" else [ExtendedKeyUsageOID.CLIENT_AUTH]
    if kind in SERVERS:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    issuer = signer.key.public_key()
    builder = (
        _builder(subject, signer.certificate.subject, public_key, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
    )
    all_hosts = dict.fromkeys((*LOOPBACK, *hosts) if kind in SERVERS else hosts)
    if all_hosts:
        names = x509.SubjectAlternativeName([general_name(host) for host in all_hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def common_name(kind: str, name: str) -> str:
    """Return `kind:name`; raises CertificateError for an unknown kind, or a name that is bad or too long."""
    if kind not in KINDS:
        raise CertificateError(f"unknown certificate kind {kind!r}; expected one of {', '.join(KINDS)}")
    check_leaf_name(name)
    max_length = _MAX_COMMON_NAME - len(kind) - 1
    if len(name) > max_length:
        raise CertificateError(
            f"certificate name {name!r} is too long for kind {kind}: at most {max_length} characters"
        )
    return f"{kind}:{name}"


def general_name(host: str) -> x509.GeneralName:
    """Return a host as a certificate carries it; raises CertificateError for neither a DNS name nor an IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if len(host) > 253 or not all(_DNS_LABEL.fullmatch(label) for label in host.split(".")):
        raise CertificateError(f"host {host!r}: expected a DNS name or an IP address, without a port")
    return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime
) -> x509.CertificateBuilder:
    start = now - _CLOCK_SKEW
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
