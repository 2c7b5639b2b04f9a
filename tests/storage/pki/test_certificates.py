import datetime
import shutil
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import Identity, Kind, load_material, read_identity

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "certs"
    create_authority(folder)
    issue(folder, "main", kind="coordinator", hosts=("fed.example.org", "192.0.2.7"))
    issue(folder, "agx-0", kind="device")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "certs"))


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_leaf_names_its_kind_and_name(folder: Path) -> None:
    assert read_identity((folder / "agx-0.pem").read_bytes()) == Identity(kind="device", name="agx-0")
    assert str(read_identity((folder / "main.pem").read_bytes())) == "coordinator:main"
    common_name = _certificate(folder / "agx-0.pem").subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert common_name == "device:agx-0"


def test_files_are_private(folder: Path, made: Path) -> None:
    for key in ("ca.key", "main.key", "agx-0.key"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_server_carries_its_hosts_and_loopback(folder: Path) -> None:
    names = _certificate(folder / "main.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "fed.example.org"}
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", "::1", "192.0.2.7"}


def test_a_device_carries_no_host(folder: Path) -> None:
    with pytest.raises(x509.ExtensionNotFound):
        _certificate(folder / "agx-0.pem").extensions.get_extension_for_class(x509.SubjectAlternativeName)


@pytest.mark.parametrize(
    ("kind", "purposes"),
    [
        ("coordinator", {ExtendedKeyUsageOID.SERVER_AUTH}),
        ("edge", {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}),
        ("class", {ExtendedKeyUsageOID.CLIENT_AUTH}),
        ("evaluator", {ExtendedKeyUsageOID.CLIENT_AUTH}),
    ],
)
def test_purposes_follow_the_kind(folder: Path, kind: Kind, purposes: set[x509.ObjectIdentifier]) -> None:
    issue(folder, "other", kind=kind)
    assert set(_certificate(folder / "other.pem").extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == (
        purposes
    )


def test_leaves_cannot_sign(folder: Path) -> None:
    assert not _certificate(folder / "agx-0.pem").extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert _certificate(folder / "ca.pem").extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_material_round_trips(folder: Path) -> None:
    material = load_material(folder, "agx-0", kinds=("device", "class"))
    assert material.ca == (folder / "ca.pem").read_bytes()
    assert material.certificate == (folder / "agx-0.pem").read_bytes()
    assert material.key == (folder / "agx-0.key").read_bytes()
    assert "PRIVATE" not in repr(material) and "device:agx-0" in repr(material)


def test_validity_is_825_days_from_a_little_before_now(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    certificate = _certificate(issue(tmp_path, "agx", kind="class", now=NOW))
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(days=825)


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    before = (folder / "agx-0.key").read_bytes()
    with pytest.raises(CertificateError, match=r"agx-0\.key exists already.*--force"):
        issue(folder, "agx-0", kind="device")
    with pytest.raises(CertificateError, match=r"ca\.key exists already"):
        create_authority(folder)
    assert (folder / "agx-0.key").read_bytes() == before
    issue(folder, "agx-0", kind="device", force=True)
    assert (folder / "agx-0.key").read_bytes() != before
    assert load_material(folder, "agx-0")


def test_a_readable_key_is_refused_with_the_remedy(folder: Path) -> None:
    (folder / "agx-0.key").chmod(0o640)
    with pytest.raises(CertificateError, match=r"mode 0640.*chmod 600 .*agx-0\.key"):
        load_material(folder, "agx-0")


@pytest.mark.parametrize("name", ["ca.pem", "agx-0.pem", "agx-0.key"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CertificateError, match=rf"{name} is missing"):
        load_material(folder, "agx-0")


@pytest.mark.parametrize("name", ["ca.pem", "agx-0.pem", "agx-0.key"])
def test_a_file_that_is_not_pem_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("hello")
    with pytest.raises(CertificateError, match=rf"{name} is not"):
        load_material(folder, "agx-0")


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    shutil.copy(folder / "main.key", folder / "agx-0.key")
    with pytest.raises(CertificateError, match=r"agx-0\.key does not belong to agx-0\.pem"):
        load_material(folder, "agx-0")


def test_a_leaf_of_another_authority_is_refused(folder: Path) -> None:
    create_authority(folder, force=True)
    with pytest.raises(CertificateError, match="was not signed by"):
        load_material(folder, "agx-0")


def test_the_wrong_kind_is_refused(folder: Path) -> None:
    with pytest.raises(CertificateError, match="is for device:agx-0, expected kind coordinator or edge"):
        load_material(folder, "agx-0", kinds=("coordinator", "edge"))


def test_expired_and_premature_are_told_apart(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    issue(tmp_path, "agx", kind="class", now=NOW)
    assert load_material(tmp_path, "agx", now=NOW + datetime.timedelta(days=800))
    with pytest.raises(CertificateError, match="expired on 2032-04-0"):
        load_material(tmp_path, "agx", now=NOW + datetime.timedelta(days=826))
    with pytest.raises(CertificateError, match="check this clock"):
        load_material(tmp_path, "agx", now=NOW - datetime.timedelta(days=1))


@pytest.mark.parametrize("name", ["", "AGX", "a b", "../x", "ca", "x" * 64])
def test_bad_names_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(CertificateError, match="expected 1-63 characters"):
        issue(folder, name, kind="device")


def test_a_common_name_never_grows_over_its_limit(folder: Path) -> None:
    issue(folder, "x" * 57, kind="device")
    with pytest.raises(CertificateError, match="at most 57 characters"):
        issue(folder, "x" * 58, kind="device")


@pytest.mark.parametrize("host", ["", "a:443", "http://a", "a..b", "-a", "a" * 64, "ü"])
def test_bad_hosts_are_refused_and_leave_nothing(folder: Path, host: str) -> None:
    with pytest.raises(CertificateError, match="expected a DNS name or an IP address"):
        issue(folder, "two", kind="coordinator", hosts=(host,))
    assert not (folder / "two.key").exists()


def test_the_authority_is_nobody(folder: Path) -> None:
    with pytest.raises(CertificateError, match="names 'fedcore authority'"):
        read_identity((folder / "ca.pem").read_bytes())


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_either_name_someone_or_raise(pem: bytes) -> None:
    with pytest.raises(CertificateError):
        read_identity(pem)


def _context(folder: Path, name: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=str(folder / "ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "fed.example.org"])
def test_a_strict_tls_stack_accepts_both_ends(folder: Path, host: str) -> None:
    near, far = socket.socketpair()
    near.settimeout(10)
    far.settimeout(10)
    server = _context(folder, "main", ssl.Purpose.CLIENT_AUTH)
    seen: list[str] = []

    def serve() -> None:
        with server.wrap_socket(far, server_side=True) as link:
            subject = link.getpeercert() or {}
            seen.append(str(subject["subject"]))
            link.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    with _context(folder, "agx-0", ssl.Purpose.SERVER_AUTH).wrap_socket(near, server_hostname=host) as link:
        assert link.recv(1) == b"x"
    thread.join(10)
    assert "device:agx-0" in seen[0]
