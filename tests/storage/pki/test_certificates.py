import datetime
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import Identity, load_material, read_identity

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone.utc)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_a_leaf_names_its_kind_and_name(folder: Path) -> None:
    assert read_identity((folder / "agx-0.pem").read_bytes()) == Identity(kind="device", name="agx-0")
    assert str(read_identity((folder / "main.pem").read_bytes())) == "coordinator:main"
    common_name = _certificate(folder / "agx-0.pem").subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    assert common_name == "device:agx-0"


def test_material_round_trips(folder: Path) -> None:
    material = load_material(folder, "agx-0", kinds=("device", "class"))
    assert material.ca == (folder / "ca.pem").read_bytes()
    assert material.certificate == (folder / "agx-0.pem").read_bytes()
    assert material.key == (folder / "agx-0.key").read_bytes()
    assert "PRIVATE" not in repr(material) and "device:agx-0" in repr(material)


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


def test_the_authority_has_no_identity(folder: Path) -> None:
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
