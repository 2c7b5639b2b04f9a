"""A certificate authority in a folder: ca.pem, ca.key, and the record of every certificate it has issued."""

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fedcore.storage.pki.authority_record import RECORD, record_transaction
from fedcore.storage.pki.certificates import Kind
from fedcore.storage.pki.pem_files import (
    check_private,
    check_vacant,
    load_certificate,
    load_key,
    make_private_folder,
    write_pair,
)
from fedcore.storage.pki.signing import Signer, new_signer, sign_leaf

CRL = "crl.pem"


def create_authority(folder: Path, *, force: bool = False, now: datetime.datetime | None = None) -> Path:
    """Make a certificate authority in `folder` (created with mode 0700); return the path of its ca.pem.

    Raises CertificateError where there is one already, unless `force`: certificates of the old one become worthless.
    """
    make_private_folder(folder)
    signer = new_signer(now or utc_now())
    path = write_pair(folder, "ca", signer.certificate, signer.key, force)
    for stale in (RECORD, CRL):  # they belong to an earlier authority
        (folder / stale).unlink(missing_ok=True)
    return path


def load_signer(folder: Path) -> Signer:
    """Return the authority in `folder`; raises CertificateError where its files are missing or readable by others."""
    check_private(folder / "ca.key")
    return Signer(certificate=load_certificate(folder / "ca.pem"), key=load_key(folder / "ca.key"))


def issue(
    folder: Path,
    name: str,
    *,
    kind: Kind,
    hosts: Sequence[str] = (),
    force: bool = False,
    now: datetime.datetime | None = None,
) -> Path:
    """Issue a certificate for `kind:name`, with a key made here, into `folder`; return the path of NAME.pem.

    `hosts` are DNS names or IP addresses that clients dial; a coordinator or edge always gets the loopback ones too.
    Raises CertificateError for a bad name, kind or host, a missing authority, and an existing pair unless `force`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sign_leaf(
        load_signer(folder), key.public_key(), kind=kind, name=name, hosts=hosts, now=now or utc_now()
    )
    if not force:
        check_vacant(folder, name)
    with record_transaction(folder) as record:  # before the files: no certificate may exist that cannot be revoked
        record.add_certificate(certificate)
    return write_pair(folder, name, certificate, key, force)


def utc_now() -> datetime.datetime:
    """Return the current time in UTC, with its time zone as X.509 code expects it."""
    return datetime.datetime.now(datetime.timezone.utc)
