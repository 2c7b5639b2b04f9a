"""A join token: one line of text that lets a machine enrol once, and tells it which authority to trust.

`fedcore1.KIND:NAME.ID.SECRET.CA.SUM`. KIND:NAME is the identity that the machine gets; ID has 16 hex digits; SECRET (32
random bytes) and CA (the authority's certificate, DER) are unpadded base64url; SUM is the first 8 hex digits of the
SHA-256 of all before the last dot, which detects a line that was cut while copying. Since the certificate is inside,
the machine needs no other file and never trusts an authority on first use.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.contract.profile import NAME
from fedcore.core.errors import CertificateError
from fedcore.storage.pki.certificates import KINDS, Identity

_PREFIX = "fedcore1"
_ID = re.compile(r"[0-9a-f]{16}")
SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token as the machine receives it; it makes the machine `identity`."""

    identity: Identity
    id: str
    secret: bytes = field(repr=False)
    ca: x509.Certificate


def token_text(token: JoinToken) -> str:
    """Return a token as the line of text that people pass on."""
    ca = token.ca.public_bytes(Encoding.DER)
    body = ".".join((_PREFIX, str(token.identity), token.id, _encode(token.secret), _encode(ca)))
    return f"{body}.{_sum(body)}"


def read_token(text: str) -> JoinToken:
    """Parse a token; raises CertificateError for any other text, in words that repeat nothing of the secret."""
    body, _, given_sum = text.strip().rpartition(".")
    parts = body.split(".")
    if len(parts) != 5 or parts[0] != _PREFIX:
        raise CertificateError("expected a join token, one line that begins with fedcore1. (see `fedcore token`)")
    if given_sum != _sum(body):
        raise CertificateError("the join token is damaged, or a part of its line is missing; copy the whole line again")
    kind, _, name = parts[1].partition(":")
    if kind not in KINDS or not NAME.fullmatch(name) or not _ID.fullmatch(parts[2]):
        raise CertificateError(f"the join token is for {parts[1][:80]!r}, which this fedcore does not know; update it")
    try:
        secret, ca = _decode(parts[3]), x509.load_der_x509_certificate(_decode(parts[4]))
    except ValueError:
        raise CertificateError("the join token holds no certificate; make a new one with `fedcore token`") from None
    return JoinToken(identity=Identity(kind=kind, name=name), id=parts[2], secret=secret, ca=ca)


def read_token_file(path: Path) -> JoinToken:
    """Read a token from a file of one line; raises CertificateError naming the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise CertificateError(f"{path} cannot be read: {getattr(cause, 'strerror', None) or cause}") from None
    try:
        return read_token(text)
    except CertificateError as error:
        raise CertificateError(f"{path}: {error}") from None


def digest_of(secret: bytes) -> bytes:
    """Return the hash that the authority keeps; a secret of 256 random bits needs neither a salt nor a slow hash."""
    return hashlib.sha256(secret).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as cause:
        raise ValueError(str(cause)) from None


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:8]
