"""The life of a join token: once, also across a crash and in a race; again for the key whose answer was lost."""

import datetime
import os
import signal
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue, load_signer
from fedcore.storage.pki.authority_record import RECORD, record_transaction
from fedcore.storage.pki.certificates import Identity, Kind, certified_identity, signed_by
from fedcore.storage.pki.device_key import signing_request
from fedcore.storage.pki.revocation import revoke
from fedcore.storage.pki.signing import new_signer, sign_leaf
from fedcore.storage.pki.token_text import JoinToken
from fedcore.storage.pki.tokens import MAX_CSR_BYTES, UNKNOWN, make_tokens, redeem

NOW = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.timezone.utc)
DAY = datetime.timedelta(days=1)
CAM = Identity(kind="device", name="cam-1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_authority(tmp_path / "certs")
    return tmp_path / "certs"


def made(folder: Path, identity: Identity = CAM, *, hosts: tuple[str, ...] = ()) -> JoinToken:
    (token,) = make_tokens(folder, identity, valid=DAY, hosts=hosts, now=NOW)
    return token


def fresh() -> bytes:
    return signing_request(ec.generate_private_key(ec.SECP256R1()), "me")


def redeemed(folder: Path, token: JoinToken, csr: bytes, now: datetime.datetime = NOW) -> x509.Certificate:
    return redeem(folder, token.id, token.secret, csr, now=now)


def test_a_token_brings_the_certificate_that_issue_would_have_made(folder: Path) -> None:
    issue(folder, "cam-1", kind="device", now=NOW)
    issued = x509.load_pem_x509_certificate((folder / "cam-1.pem").read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    enrolled = redeemed(folder, made(folder), signing_request(key, "somebody-else"))
    assert enrolled.public_key() == key.public_key() and signed_by(enrolled, load_signer(folder).certificate)
    assert certified_identity(enrolled) == CAM
    assert list(enrolled.extensions) == list(issued.extensions)
    assert (enrolled.not_valid_before_utc, enrolled.not_valid_after_utc) == (
        issued.not_valid_before_utc,
        issued.not_valid_after_utc,
    )


def test_an_edge_carries_the_hosts_of_its_token_and_none_of_its_request(folder: Path) -> None:
    token = made(folder, Identity(kind="edge", name="north"), hosts=("edge.example", "192.0.2.7"))
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator:main")]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=9), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate = redeemed(folder, token, request.public_bytes(Encoding.DER))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "edge.example"}
    assert certified_identity(certificate) == Identity(kind="edge", name="north")
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_once_means_once_but_a_lost_answer_is_given_again(folder: Path) -> None:
    token, csr = made(folder), fresh()
    first = redeemed(folder, token, csr)
    assert redeemed(folder, token, csr) == first
    assert redeemed(folder, token, csr, now=NOW + 30 * DAY) == first, "the answer was lost for long"
    with pytest.raises(CertificateError, match="the join token for device:cam-1 has been used, by another key"):
        redeemed(folder, token, fresh())


def test_a_revoked_certificate_is_not_given_again(folder: Path) -> None:
    token, csr = made(folder), fresh()
    redeemed(folder, token, csr)
    revoke(folder, "cam-1", now=NOW)
    with pytest.raises(CertificateError, match="certificate of this join token, for device:cam-1, has been revoked"):
        redeemed(folder, token, csr)


def test_a_token_expires(folder: Path) -> None:
    token = made(folder)
    with pytest.raises(CertificateError, match="the join token for device:cam-1 has expired"):
        redeemed(folder, token, fresh(), now=NOW + DAY)
    assert redeemed(folder, token, fresh(), now=NOW + DAY - datetime.timedelta(seconds=1))


def test_a_stranger_learns_nothing(folder: Path) -> None:
    """Wrong id, wrong secret, used or not: the same words, before anybody looks at the request."""
    token = made(folder)
    for used in (False, True):
        if used:
            redeemed(folder, token, fresh())
        for token_id, secret in ((token.id, bytes(32)), ("0" * 16, token.secret), ("", b""), (token.id, b"")):
            with pytest.raises(CertificateError) as caught:
                redeem(folder, token_id, secret, b"no request", now=NOW)
            assert str(caught.value) == UNKNOWN


def test_only_the_hash_of_a_secret_is_kept_for_the_owner_alone(folder: Path) -> None:
    token = made(folder)
    assert token.secret not in (folder / RECORD).read_bytes()
    assert token.secret.hex().encode() not in (folder / RECORD).read_bytes()
    assert stat.S_IMODE((folder / RECORD).stat().st_mode) == 0o600
    assert sorted(path.name for path in folder.iterdir()) == [RECORD, "ca.key", "ca.pem"]


def tampered() -> bytes:
    csr = bytearray(fresh())
    csr[-1] ^= 1
    return bytes(csr)


def request_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)  # type: ignore[arg-type]


REQUESTS = {
    "nothing": (b"", "cannot be read"),
    "noise": (b"\x30\x03\x02\x01\x00", "cannot be read"),
    "too large": (bytes(MAX_CSR_BYTES + 1), "has 4097 bytes, expected at most 4096"),
    "another curve": (request_of(ec.generate_private_key(ec.SECP384R1())), "is for a key of another kind"),
    "rsa": (request_of(rsa.generate_private_key(65537, 2048)), "is for a key of another kind"),
    "ed25519": (request_of(ed25519.Ed25519PrivateKey.generate()), "is for a key of another kind"),
    "another's key": (tampered(), "was not signed with its own key"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_is_none_does_not_use_the_token_up(folder: Path, name: str) -> None:
    token, (csr, told) = made(folder), REQUESTS[name]
    with pytest.raises(CertificateError, match=told) as caught:
        redeemed(folder, token, csr)
    assert "P-256" in str(caught.value)
    assert redeemed(folder, token, fresh())


def test_of_many_at_once_one_gets_the_certificate(folder: Path) -> None:
    token = made(folder)
    won: list[x509.Certificate] = []
    told: list[str] = []
    ready = threading.Barrier(8)

    def race() -> None:
        csr = fresh()
        ready.wait(10)
        try:
            won.append(redeemed(folder, token, csr))
        except CertificateError as error:
            told.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(won) == 1 and len(told) == 7
    assert all("has been used, by another key" in each for each in told)
    with record_transaction(folder) as record:
        assert [each.serial for each in record.certificates()] == [won[0].serial_number]


def test_of_many_at_once_with_one_key_all_get_the_same(folder: Path) -> None:
    token, csr = made(folder), fresh()
    got: list[x509.Certificate] = []
    threads = [threading.Thread(target=lambda: got.append(redeemed(folder, token, csr))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 6 and len({each.serial_number for each in got}) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_token_is_used_exactly_where_its_certificate_is_recorded(folder: Path, moment: str) -> None:
    """A process that is killed in the middle of it has done both or nothing."""
    token, key = made(folder), ec.generate_private_key(ec.SECP256R1())
    leaf = sign_leaf(load_signer(folder), key.public_key(), kind="device", name="cam-1", now=NOW)
    child = os.fork()
    if child == 0:  # dies by its own hand, before or after the commit, without unwinding anything
        with record_transaction(folder) as record:
            record.add_certificate(leaf)
            record.use_token(token.id, leaf.serial_number)
            if moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with record_transaction(folder) as record:
        entry, issued = record.token(token.id), record.certificates()
    assert entry is not None
    if moment == "after":
        assert [each.serial for each in issued] == [entry.serial] == [leaf.serial_number]
        with pytest.raises(CertificateError, match="used, by another key"):
            redeemed(folder, token, fresh())
    else:
        assert entry.serial is None and not issued
        assert redeemed(folder, token, fresh())


def test_several_tokens_are_several(folder: Path) -> None:
    tokens = make_tokens(folder, Identity(kind="class", name="agx"), valid=DAY, count=3, now=NOW)
    assert len({token.id for token in tokens}) == len({token.secret for token in tokens}) == 3
    certificates = [redeemed(folder, token, fresh()) for token in tokens]
    assert {str(certified_identity(each)) for each in certificates} == {"class:agx"}
    assert len({each.serial_number for each in certificates}) == 3


@pytest.mark.parametrize(
    ("kind", "name", "hosts", "told"),
    [
        ("device", "Cam", (), "expected 1-63 characters"),
        ("device", "crl", (), "neither 'ca' nor 'crl'"),
        ("device", "x" * 58, (), "at most 57 characters"),
        ("edge", "north", ("a:443",), "expected a DNS name or an IP address"),
    ],
)
def test_tokens_that_could_never_be_redeemed_are_not_made(
    folder: Path, kind: Kind, name: str, hosts: tuple[str, ...], told: str
) -> None:
    with pytest.raises(CertificateError, match=told):
        make_tokens(folder, Identity(kind=kind, name=name), valid=DAY, hosts=hosts)
    assert not (folder / RECORD).exists()


def test_a_folder_without_the_authoritys_key_makes_none(folder: Path) -> None:
    (folder / "ca.key").unlink()
    with pytest.raises(CertificateError, match=r"ca\.key is missing"):
        make_tokens(folder, CAM, valid=DAY)


def test_a_key_of_the_authority_that_others_may_read_is_refused(folder: Path) -> None:
    (folder / "ca.key").chmod(0o644)
    with pytest.raises(CertificateError, match=r"chmod 600 .*ca\.key"):
        make_tokens(folder, CAM, valid=DAY)


def test_a_new_authority_knows_nothing_of_the_old_one(folder: Path) -> None:
    token = made(folder)
    create_authority(folder, force=True)
    with pytest.raises(CertificateError, match="not known here"):
        redeemed(folder, token, fresh())
    assert load_signer(folder).certificate != new_signer(NOW).certificate
