"""Leaves as the authority signs them: hosts, purposes, validity, names."""

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import Kind, signed_by
from fedcore.storage.pki.signing import common_name, general_name, new_signer, sign_leaf

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone.utc)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


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


def test_validity_is_825_days_from_a_little_before_now(tmp_path: Path) -> None:
    create_authority(tmp_path, now=NOW)
    certificate = _certificate(issue(tmp_path, "agx", kind="class", now=NOW))
    assert certificate.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(days=825)


@pytest.mark.parametrize("name", ["", "AGX", "a b", "../x", "ca", "x" * 64])
def test_bad_names_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(CertificateError, match="expected 1-63 characters"):
        issue(folder, name, kind="device")


def test_a_common_name_never_grows_over_its_limit(folder: Path) -> None:
    issue(folder, "x" * 57, kind="device")
    with pytest.raises(CertificateError, match="at most 57 characters"):
        issue(folder, "x" * 58, kind="device")


def test_a_leaf_binds_a_key_that_was_made_elsewhere() -> None:
    signer, key = new_signer(NOW), ec.generate_private_key(ec.SECP256R1()).public_key()
    leaf = sign_leaf(signer, key, kind="device", name="cam-1", now=NOW)
    assert leaf.public_key() == key
    assert leaf.issuer == signer.certificate.subject
    assert signed_by(leaf, signer.certificate)
    assert not signed_by(leaf, new_signer(NOW).certificate)


def test_an_authority_signs_leaves_and_lists_and_no_authority() -> None:
    extensions = new_signer(NOW).certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign, usage.digital_signature) == (True, True, False)
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_a_signer_never_shows_its_key() -> None:
    assert "key" not in repr(new_signer(NOW)).lower().replace("publickey", "")


def test_a_common_name_is_kind_and_name() -> None:
    assert common_name("class", "agx") == "class:agx"
    with pytest.raises(CertificateError, match="unknown certificate kind 'robot'; expected one of coordinator, device"):
        common_name("robot", "r2")


def test_a_host_is_an_address_or_a_dns_name() -> None:
    assert isinstance(general_name("192.0.2.7"), x509.IPAddress)
    assert isinstance(general_name("2001:db8::1"), x509.IPAddress)
    assert general_name("fed.example.org") == x509.DNSName("fed.example.org")
    with pytest.raises(CertificateError, match="without a port"):
        general_name("a." * 127)
