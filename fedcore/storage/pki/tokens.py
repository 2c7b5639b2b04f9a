"""Join tokens at the authority: make them, and redeem each of them once before it expires."""

import datetime
import hmac
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import load_signer, utc_now
from fedcore.storage.pki.authority_record import AuthorityRecord, TokenEntry, record_transaction
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.signing import common_name, general_name, sign_leaf
from fedcore.storage.pki.token_text import SECRET_BYTES, JoinToken, digest_of

MAX_CSR_BYTES = 4096  # the request of a P-256 key with a name has about 250 bytes
UNKNOWN = "this join token is not known here: it was withdrawn, or is another authority's; ask for a new one"


def make_tokens(
    folder: Path,
    identity: Identity,
    *,
    valid: datetime.timedelta,
    count: int = 1,
    hosts: Sequence[str] = (),
    now: datetime.datetime | None = None,
) -> tuple[JoinToken, ...]:
    """Make `count` tokens; a token enrols one machine as `identity` within the time `valid` from now.

    The certificate carries `hosts`, for a machine that others dial. Raises CertificateError for an identity that no
    certificate can carry, for a bad host, and for a folder without an authority.
    """
    common_name(identity.kind, identity.name)
    for host in hosts:
        general_name(host)
    signer = load_signer(folder)
    expires_s = ((now or utc_now()) + valid).timestamp()
    tokens = tuple(
        JoinToken(
            identity=identity,
            id=secrets.token_hex(8),
            secret=secrets.token_bytes(SECRET_BYTES),
            ca=signer.certificate,
        )
        for _ in range(count)
    )
    with record_transaction(folder) as record:
        for token in tokens:
            record.add_token(
                TokenEntry(
                    id=token.id,
                    digest=digest_of(token.secret),
                    identity=identity,
                    hosts=tuple(hosts),
                    expires_s=expires_s,
                    serial=None,
                )
            )
    return tokens


def redeem(
    folder: Path, token_id: str, secret: bytes, csr: bytes, *, note: str = "", now: datetime.datetime | None = None
) -> x509.Certificate:
    """Redeem a token: return a certificate for the key of a signing request (PKCS#10, DER).

    Only the request's public key counts, and it must be on P-256. The token is durably marked as used before this
    returns. A second call with the same key, after an answer was lost, returns the same certificate. `note` is the
    machine's own name, for people. Raises CertificateError where the token is unknown (a wrong secret gives the same
    message), expired or used, and where the request is malformed.
    """
    signer, moment = load_signer(folder), now or utc_now()
    with record_transaction(folder) as record:
        entry = record.token(token_id)
        # Compare for an unknown id too: the time of the answer must not tell which ids exist.
        digest = entry.digest if entry is not None else bytes(SECRET_BYTES)
        if not hmac.compare_digest(digest_of(secret), digest) or entry is None:
            raise CertificateError(UNKNOWN)
        key = _key_of(csr)
        if entry.serial is not None:
            return _earlier_certificate(record, entry, key)
        if moment.timestamp() >= entry.expires_s:
            raise CertificateError(f"the join token for {entry.identity} has expired; ask for a new one")
        kind, name = entry.identity.kind, entry.identity.name
        certificate = sign_leaf(signer, key, kind=kind, name=name, hosts=entry.hosts, now=moment)
        record.add_certificate(certificate, note)
        record.use_token(token_id, certificate.serial_number)
    return certificate


def _earlier_certificate(
    record: AuthorityRecord, entry: TokenEntry, key: ec.EllipticCurvePublicKey
) -> x509.Certificate:
    issued = record.certificate(entry.serial or 0)
    if issued is None or issued.certificate.public_key() != key:
        raise CertificateError(
            f"the join token for {entry.identity} has been used, by another key; if that was not yours, revoke "
            f"{entry.identity}, and ask for a new one in any case"
        )
    if issued.revoked_s is not None:
        raise CertificateError(f"the certificate of this join token, for {entry.identity}, has been revoked")
    return issued.certificate


def _key_of(csr: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a signing request, once its signature proves that the sender has the private key."""
    wrong = "the signing request {}; send one of an EC key on P-256 (secp256r1), signed with that key"
    if len(csr) > MAX_CSR_BYTES:
        raise CertificateError(wrong.format(f"has {len(csr)} bytes, expected at most {MAX_CSR_BYTES}"))
    try:
        request = x509.load_der_x509_csr(csr)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(wrong.format("cannot be read")) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError(wrong.format("is for a key of another kind"))
    if not request.is_signature_valid:
        raise CertificateError(wrong.format("was not signed with its own key"))
    return key
