"""Revocation lists: what a standard tool reads in them, the identities they name, and which are refused."""

import datetime
import shutil
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import CRL, create_authority, issue, load_signer
from fedcore.storage.pki.authority_record import record_transaction
from fedcore.storage.pki.certificates import Identity, read_identity
from fedcore.storage.pki.device_key import signing_request
from fedcore.storage.pki.revocation import MAX_CRL_BYTES, RevocationList, read_list, revoke, write_list
from fedcore.storage.pki.tokens import make_tokens, redeem

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    create_authority(folder, now=NOW)
    issue(folder, "cam-1", kind="device", now=NOW)
    issue(folder, "cam-2", kind="device", now=NOW)
    issue(folder, "north", kind="edge", now=NOW)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "certs"))


def identity(folder: Path, name: str) -> Identity:
    return read_identity((folder / f"{name}.pem").read_bytes())


def in_force(folder: Path) -> RevocationList:
    return read_list((folder / CRL).read_bytes(), load_signer(folder).certificate)


def test_a_list_is_a_standard_crl(folder: Path) -> None:
    done = revoke(folder, "cam-1", now=NOW)
    assert done.path == folder / CRL
    crl = x509.load_pem_x509_crl((folder / CRL).read_bytes())
    ca = load_signer(folder).certificate
    assert crl.is_signature_valid(ca.public_key()) and crl.issuer == ca.subject  # type: ignore[arg-type]
    serial = identity(folder, "cam-1").serial
    entry = crl.get_revoked_certificate_by_serial_number(serial)
    assert entry is not None and entry.revocation_date_utc == NOW
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == int(NOW.timestamp())
    assert [each.serial for each in done.certificates] == [serial]


def test_a_list_round_trips_and_names_its_identities(folder: Path, tmp_path: Path) -> None:
    revoke(folder, "cam-1", now=NOW)
    held = in_force(folder)
    assert dict(held.revoked) == {identity(folder, "cam-1").serial: NOW}
    assert read_list(held.der, load_signer(folder).certificate) == held
    write_list(tmp_path / "copy.pem", held)
    assert (tmp_path / "copy.pem").read_bytes() == (folder / CRL).read_bytes()
    held.check(identity(folder, "cam-2"))
    with pytest.raises(CertificateError) as caught:
        held.check(identity(folder, "cam-1"))
    assert str(caught.value).startswith(
        f"the certificate of device:cam-1 (serial {identity(folder, 'cam-1').serial:x})"
    )
    assert "was revoked on 2030-01-01 12:00 UTC; ask for a join token and enrol again" in str(caught.value)
    RevocationList().check(identity(folder, "cam-1"))


def test_a_name_means_all_its_certificates_so_far_and_no_later_one(folder: Path) -> None:
    first = identity(folder, "cam-1")
    issue(folder, "cam-1", kind="device", force=True, now=NOW)
    second = identity(folder, "cam-1")
    done = revoke(folder, "cam-1", now=NOW)
    assert {each.serial for each in done.certificates} == {first.serial, second.serial}
    issue(folder, "cam-1", kind="device", force=True, now=NOW + DAY)
    in_force(folder).check(identity(folder, "cam-1"))
    for older in (first, second):
        with pytest.raises(CertificateError, match="was revoked"):
            in_force(folder).check(older)


def test_lists_grow_their_numbers_rise_and_the_first_day_counts(folder: Path) -> None:
    revoke(folder, "cam-1", now=NOW)
    first = in_force(folder)
    revoke(folder, "cam-2", now=NOW)  # in the same second
    second = in_force(folder)
    assert second.number == first.number + 1 and len(second.revoked) == 2
    revoke(folder, "cam-1", now=NOW + DAY)
    third = in_force(folder)
    assert third.number > second.number
    assert third.revoked[identity(folder, "cam-1").serial] == NOW


def test_one_certificate_of_several_is_revoked_by_its_serial(folder: Path) -> None:
    first = identity(folder, "cam-1")
    issue(folder, "cam-1", kind="device", force=True, now=NOW)
    revoke(folder, first.serial, now=NOW)
    assert set(in_force(folder).revoked) == {first.serial}


def test_a_name_of_two_kinds_must_be_said_whole(folder: Path) -> None:
    issue(folder, "other", kind="device", now=NOW)
    issue(folder, "other", kind="class", force=True, now=NOW)
    with pytest.raises(CertificateError, match="'other' may be any of class:other, device:other; say which"):
        revoke(folder, "other")
    done = revoke(folder, "class:other", now=NOW)
    assert [str(each.identity) for each in done.certificates] == ["class:other"]


def test_an_unknown_identity_cannot_be_revoked(folder: Path) -> None:
    with pytest.raises(CertificateError, match=r"no certificate for 'cam-9'; see fedcore certs .* --list"):
        revoke(folder, "cam-9")
    with pytest.raises(CertificateError, match="no certificate of serial ff"):
        revoke(folder, 0xFF)
    assert not (folder / CRL).exists()


def test_a_name_takes_its_open_tokens_along_and_a_serial_does_not(folder: Path) -> None:
    open_tokens = make_tokens(folder, Identity(kind="device", name="cam-1"), valid=DAY, count=2, now=NOW)
    (other,) = make_tokens(folder, Identity(kind="device", name="cam-2"), valid=DAY, now=NOW)
    assert revoke(folder, identity(folder, "cam-1").serial, now=NOW).tokens == 0
    assert revoke(folder, "cam-1", now=NOW).tokens == 2
    csr = signing_request(ec.generate_private_key(ec.SECP256R1()), "me")
    for token in open_tokens:
        with pytest.raises(CertificateError, match="withdrawn"):
            redeem(folder, token.id, token.secret, csr, now=NOW)
    assert redeem(folder, other.id, other.secret, csr, now=NOW)


def test_an_expired_certificate_is_left_out(folder: Path) -> None:
    revoke(folder, "cam-1", now=NOW)
    issue(folder, "later", kind="device", now=NOW + 900 * DAY)
    revoke(folder, "later", now=NOW + 900 * DAY)
    assert set(in_force(folder).revoked) == {identity(folder, "later").serial}


def test_a_record_from_a_backup_does_not_bring_old_numbers_back(folder: Path) -> None:
    backup = (folder / "authority.sqlite").read_bytes()
    revoke(folder, "cam-1", now=NOW)
    before = in_force(folder).number
    (folder / "authority.sqlite").write_bytes(backup)
    revoke(folder, "cam-2", now=NOW + DAY)
    assert in_force(folder).number > before


def test_another_authoritys_list_is_refused(folder: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    issue(tmp_path / "other", "cam-1", kind="device")
    revoke(tmp_path / "other", "cam-1")
    with pytest.raises(CertificateError, match="not signed by this authority"):
        read_list((tmp_path / "other" / CRL).read_bytes(), load_signer(folder).certificate)


def test_a_list_that_was_changed_is_refused(folder: Path) -> None:
    revoke(folder, "cam-1", now=NOW)
    held, ca = in_force(folder), load_signer(folder).certificate
    serial = identity(folder, "cam-1").serial.to_bytes(20, "big").lstrip(b"\0")
    assert serial in held.der
    with pytest.raises(CertificateError, match="not signed by this authority"):
        read_list(held.der.replace(serial, serial[:-1] + bytes([serial[-1] ^ 1])), ca)
    for cut in (b"", b"hello", held.der[:-9], b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
        with pytest.raises(CertificateError, match=r"not an X\.509 revocation list"):
            read_list(cut, ca)
    with pytest.raises(CertificateError, match=f"expected at most {MAX_CRL_BYTES}"):
        read_list(bytes(MAX_CRL_BYTES + 1), ca)


def test_a_list_without_a_number_is_refused(folder: Path) -> None:
    signer = load_signer(folder)
    builder = x509.CertificateRevocationListBuilder().issuer_name(signer.certificate.subject)
    crl = builder.last_update(NOW).next_update(NOW + DAY).sign(signer.key, hashes.SHA256())
    with pytest.raises(CertificateError, match="with a number"):
        read_list(crl.public_bytes(Encoding.PEM), signer.certificate)


def test_the_record_keeps_what_was_revoked_and_when(folder: Path) -> None:
    revoke(folder, "north", now=NOW)
    with record_transaction(folder) as record:
        told = {str(each.identity): each.revoked_s for each in record.certificates()}
    assert told == {"device:cam-1": None, "device:cam-2": None, "edge:north": NOW.timestamp()}
