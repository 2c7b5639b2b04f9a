"""The files of an enrolment: a key that never leaves this machine, the request it signs, the certificate it gets.

The key lies in NAME.key.new until the certificate arrives. An interrupted enrolment therefore continues with the same
key, which lets it ask again for an answer that was lost; and a machine that renews its certificate keeps its working
pair until the new one is complete.
"""

import contextlib
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedcore.core.errors import CertificateError
from fedcore.storage.atomic import write_atomic
from fedcore.storage.pki.certificates import certified_identity, check_leaf_name, signed_by
from fedcore.storage.pki.pem_files import (
    certificate_pem,
    check_vacant,
    key_pem,
    load_certificate,
    load_key,
    make_private_folder,
    write_new,
)
from fedcore.storage.pki.token_text import JoinToken


def is_enrolled(folder: Path, name: str) -> bool:
    """Return whether a machine has a certificate and its key; raises CertificateError where a file is damaged."""
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    if not (pem.is_file() and key.is_file()):
        return False
    return load_certificate(pem).public_key() == load_key(key).public_key()  # False after a crash between both writes


def begin_enrolment(folder: Path, name: str, token: JoinToken, *, replace: bool = False) -> ec.EllipticCurvePrivateKey:
    """Return the key to enrol with, made now or by an interrupted try; makes `folder` with mode 0700.

    Raises CertificateError for a bad name, where NAME has a certificate already (unless `replace`), and where the
    folder belongs to another authority than the token.
    """
    check_leaf_name(name)
    make_private_folder(folder)
    if (folder / "ca.pem").exists() and load_certificate(folder / "ca.pem") != token.ca:
        raise CertificateError(f"{folder}/ca.pem is another authority than the join token's; enrol into a new folder")
    pending = _pending(folder, name)
    if pending.exists():
        return load_key(pending)
    if not replace:
        check_vacant(folder, name)
    _make_key(pending)
    return load_key(pending)


def signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Return a signing request (PKCS#10, DER), which proves possession of `key`; the authority ignores its name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def finish_enrolment(folder: Path, name: str, token: JoinToken, key: ec.EllipticCurvePrivateKey, der: bytes) -> Path:
    """Store the certificate `der` with its key and ca.pem; return the path of NAME.pem.

    Raises CertificateError, and changes nothing, where the certificate is for another key, for another identity than
    the token's, or signed by another authority than the token's.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError:
        raise CertificateError("the enrolment server answered with something else than a certificate") from None
    if certificate.public_key() != key.public_key() or not signed_by(certificate, token.ca):
        raise CertificateError(
            "the certificate that came is not for this key, or not of the join token's authority; it was not kept"
        )
    if certified_identity(certificate) != token.identity:
        raise CertificateError(
            f"the certificate that came is for {certified_identity(certificate)}, expected {token.identity}"
        )
    pem = folder / f"{name}.pem"
    try:
        write_atomic(folder / "ca.pem", certificate_pem(token.ca), mode=0o644, durable=True)
        write_atomic(folder / f"{name}.key", key_pem(key), mode=0o600, durable=True)
        write_atomic(pem, certificate_pem(certificate), mode=0o644, durable=True)
        with contextlib.suppress(FileNotFoundError):
            _pending(folder, name).unlink()  # last: a process that dies before continues from this key
    except OSError as cause:
        raise CertificateError(f"{cause.filename or folder}: cannot be written: {cause.strerror or cause}") from None
    return pem


def _make_key(path: Path) -> None:
    """Write a new key, whole or not at all; a key that another process has written meanwhile stays."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(temporary, key_pem(ec.generate_private_key(ec.SECP256R1())), mode=0o600)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(temporary)  # unlike a rename, never replaces the other process's key
    except OSError as cause:
        raise CertificateError(f"{path}: cannot be written: {cause.strerror or cause}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _pending(folder: Path, name: str) -> Path:
    return folder / f"{name}.key.new"
