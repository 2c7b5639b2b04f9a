"""A machine's side of enrolment on disk: the key stays, nothing is lost by stopping anywhere."""

import datetime
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import Identity, load_material, read_identity
from fedcore.storage.pki.device_key import begin_enrolment, finish_enrolment, is_enrolled, signing_request
from fedcore.storage.pki.pem_files import key_pem, load_key
from fedcore.storage.pki.token_text import JoinToken
from fedcore.storage.pki.tokens import make_tokens, redeem

CAM = Identity(kind="device", name="cam-1")


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    create_authority(tmp_path / "authority")
    return tmp_path / "authority"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def token_for(authority: Path, identity: Identity = CAM) -> JoinToken:
    (token,) = make_tokens(authority, identity, valid=datetime.timedelta(hours=1))
    return token


def answer(authority: Path, token: JoinToken, key: ec.EllipticCurvePrivateKey) -> bytes:
    csr = signing_request(key, "cam-1")
    return redeem(authority, token.id, token.secret, csr).public_bytes(Encoding.DER)


def enrol(authority: Path, mine: Path, token: JoinToken, *, replace: bool = False) -> Path:
    key = begin_enrolment(mine, "cam-1", token, replace=replace)
    return finish_enrolment(mine, "cam-1", token, key, answer(authority, token, key))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_enrolled_machine_has_what_a_join_needs(authority: Path, mine: Path) -> None:
    assert not is_enrolled(mine, "cam-1")
    assert enrol(authority, mine, token_for(authority)) == mine / "cam-1.pem"
    assert is_enrolled(mine, "cam-1")
    assert names(mine) == ["ca.pem", "cam-1.key", "cam-1.pem"]
    assert read_identity(load_material(mine, "cam-1").certificate) == CAM
    assert stat.S_IMODE((mine / "cam-1.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700


def test_the_key_is_nowhere_but_here(authority: Path, mine: Path) -> None:
    enrol(authority, mine, token_for(authority))
    key = load_material(mine, "cam-1").key
    secret = load_key(mine / "cam-1.key").private_numbers().private_value.to_bytes(32, "big")
    for path in authority.iterdir():
        assert key not in path.read_bytes() and secret not in path.read_bytes()


def test_an_interrupted_machine_continues_with_the_same_key(authority: Path, mine: Path) -> None:
    token = token_for(authority)
    first = begin_enrolment(mine, "cam-1", token)
    assert names(mine) == ["cam-1.key.new"] and not is_enrolled(mine, "cam-1")
    lost = answer(authority, token, first)  # the answer never came
    again = begin_enrolment(mine, "cam-1", token)
    assert again.public_key() == first.public_key()
    assert answer(authority, token, again) == lost
    finish_enrolment(mine, "cam-1", token, again, lost)
    assert is_enrolled(mine, "cam-1")


def test_a_machine_that_died_between_two_files_continues(authority: Path, mine: Path) -> None:
    token = token_for(authority)
    enrol(authority, mine, token_for(authority))
    key = begin_enrolment(mine, "cam-1", token, replace=True)
    der = answer(authority, token, key)
    (mine / "cam-1.key").write_bytes((mine / "cam-1.key.new").read_bytes())  # and then it died
    assert not is_enrolled(mine, "cam-1")
    again = begin_enrolment(mine, "cam-1", token)
    finish_enrolment(mine, "cam-1", token, again, der)
    assert load_material(mine, "cam-1") and is_enrolled(mine, "cam-1")


def test_a_working_pair_stays_until_another_has_come(authority: Path, mine: Path) -> None:
    enrol(authority, mine, token_for(authority))
    before = load_material(mine, "cam-1")
    token = token_for(authority)
    with pytest.raises(CertificateError, match=r"cam-1\.key exists already.*--force"):
        begin_enrolment(mine, "cam-1", token)
    begin_enrolment(mine, "cam-1", token, replace=True)  # and no answer ever came
    assert load_material(mine, "cam-1") == before and is_enrolled(mine, "cam-1")
    enrol(authority, mine, token, replace=True)
    assert load_material(mine, "cam-1").certificate != before.certificate
    assert names(mine) == ["ca.pem", "cam-1.key", "cam-1.pem"]


def test_a_folder_of_another_authority_is_left_alone(authority: Path, mine: Path, tmp_path: Path) -> None:
    create_authority(tmp_path / "other")
    mine.mkdir()
    (mine / "ca.pem").write_bytes((tmp_path / "other" / "ca.pem").read_bytes())
    with pytest.raises(CertificateError, match=r"ca\.pem is another authority than the join token's"):
        begin_enrolment(mine, "cam-1", token_for(authority))
    assert names(mine) == ["ca.pem"]


def test_a_certificate_that_is_not_ours_is_not_kept(authority: Path, mine: Path, tmp_path: Path) -> None:
    token, of_a_class = token_for(authority), token_for(authority, Identity(kind="class", name="agx"))
    key = begin_enrolment(mine, "cam-1", token)
    strange = answer(authority, token_for(authority), ec.generate_private_key(ec.SECP256R1()))
    create_authority(tmp_path / "other")
    (foreign,) = make_tokens(tmp_path / "other", CAM, valid=datetime.timedelta(hours=1))
    not_ours = answer(tmp_path / "other", foreign, key)
    for der, told in (
        (b"hello", "something else than a certificate"),
        (strange, "not for this key"),
        (not_ours, "not of the join token's authority"),
        (answer(authority, of_a_class, key), "is for class:agx, expected"),
    ):
        with pytest.raises(CertificateError, match=told):
            finish_enrolment(mine, "cam-1", token, key, der)
        assert names(mine) == ["cam-1.key.new"]


@pytest.mark.parametrize("name", ["", "Cam", "ca", "crl", "../x"])
def test_bad_names_are_refused(authority: Path, mine: Path, name: str) -> None:
    with pytest.raises(CertificateError, match="expected 1-63 characters"):
        begin_enrolment(mine, name, token_for(authority))
    assert not mine.exists()


def test_a_folder_that_cannot_be_made_is_named(authority: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CertificateError, match=r"file/certs: cannot be made"):
        begin_enrolment(tmp_path / "file" / "certs", "cam-1", token_for(authority))


def test_a_request_says_nothing_but_its_key(authority: Path, mine: Path) -> None:
    key = begin_enrolment(mine, "cam-1", token_for(authority))
    request = x509.load_der_x509_csr(signing_request(key, "cam-1"))
    assert request.is_signature_valid and request.public_key() == key.public_key()
    assert len(list(request.extensions)) == 0


def test_a_pair_that_issue_made_counts_as_enrolled(authority: Path) -> None:
    issue(authority, "cam-1", kind="device")
    assert is_enrolled(authority, "cam-1")


def test_replicas_that_share_a_folder_share_a_key_and_a_token(authority: Path, mine: Path) -> None:
    """All containers of a class may hold one token: the second one gets the same certificate."""
    token = token_for(authority, Identity(kind="class", name="agx"))
    keys: list[ec.EllipticCurvePrivateKey] = []
    ready = threading.Barrier(6)

    def replica() -> None:
        ready.wait(10)
        keys.append(begin_enrolment(mine, "agx", token))

    threads = [threading.Thread(target=replica) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(keys) == 6 and len({key_pem(key) for key in keys}) == 1
    for key in keys:
        finish_enrolment(mine, "agx", token, key, answer(authority, token, key))
    assert names(mine) == ["agx.key", "agx.pem", "ca.pem"] and is_enrolled(mine, "agx")
