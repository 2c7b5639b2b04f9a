"""Certificates and private keys as PEM files; only the owner can read a key."""

import os
import stat
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedcore.core.errors import CertificateError


def make_private_folder(folder: Path) -> None:
    """Make `folder` with mode 0700 unless it exists; raises CertificateError where that fails."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        raise CertificateError(f"{folder}: cannot be made: {cause.strerror or cause}") from None


def write_pair(
    folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, force: bool
) -> Path:
    """Write NAME.key (mode 0600) and NAME.pem; return the path of NAME.pem.

    Raises CertificateError where either exists, unless `force`, and where the folder cannot be written.
    """
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    if not force:
        check_vacant(folder, name)
    try:
        if force:
            secret.unlink(missing_ok=True)
            pem.unlink(missing_ok=True)
        write_new(secret, key_pem(key), mode=0o600)
        write_new(pem, certificate_pem(certificate), mode=0o644)
    except OSError as cause:
        raise CertificateError(f"{cause.filename or folder}: cannot be written: {cause.strerror or cause}") from None
    return pem


def check_vacant(folder: Path, name: str) -> None:
    """Raise CertificateError where NAME.key or NAME.pem exists."""
    for path in (folder / f"{name}.key", folder / f"{name}.pem"):
        if path.exists():
            raise CertificateError(f"{path} exists already; take another name, or replace it with --force")


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM bytes, not encrypted."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM bytes."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def load_certificate(path: Path) -> x509.Certificate:
    """Load a PEM certificate; raises CertificateError where it is missing or no certificate."""
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError:
        raise CertificateError(f"{path} is not a PEM certificate; issue it again with `fedcore certs`") from None


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load a PEM private key; raises CertificateError where it is missing or not an unencrypted EC key."""
    try:
        key = serialization.load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError(f"{path} is not an unencrypted EC key in PEM form; issue it again with `fedcore certs`")
    return key


def check_private(path: Path) -> None:
    """Raise CertificateError where a key file is missing, or other users may read or write it."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as cause:
        raise CertificateError(_unreadable(path, cause)) from None
    if mode & 0o077:
        raise CertificateError(f"{path} may be read by others (mode {mode:04o}); run: chmod 600 {path}")


def write_new(path: Path, content: bytes, *, mode: int) -> None:
    """Write a file that must not exist yet; raises OSError as the file system does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchmod(descriptor, mode)  # the umask has restricted the mode at open
        stream.write(content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise CertificateError(_unreadable(path, cause)) from None


def _unreadable(path: Path, cause: OSError) -> str:
    if isinstance(cause, FileNotFoundError):
        return f"{path} is missing; make it with `fedcore certs`, or copy it from where it was made"
    return f"{path} cannot be read: {cause.strerror or cause}"
