"""Join tokens as text: what one line says, and what is told where it is not whole."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.authority import create_authority, load_signer
from fedcore.storage.pki.certificates import KINDS, Identity
from fedcore.storage.pki.signing import Signer
from fedcore.storage.pki.token_text import JoinToken, digest_of, read_token, read_token_file, token_text


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    folder = tmp_path_factory.mktemp("authority")
    create_authority(folder)
    return load_signer(folder)


def token_of(signer: Signer, **changes: object) -> JoinToken:
    values: dict[str, object] = {
        "identity": Identity(kind="device", name="cam-1"),
        "id": "0123456789abcdef",
        "secret": bytes(range(32)),
        "ca": signer.certificate,
    }
    return JoinToken(**(values | changes))  # type: ignore[arg-type]


def test_a_token_is_one_line_that_says_whose_it_is(signer: Signer) -> None:
    text = token_text(token_of(signer))
    assert text.startswith("fedcore1.device:cam-1.0123456789abcdef.AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8.")
    assert len(text.split()) == 1 and len(text) < 1000


@settings(max_examples=50, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    name=st.text("abcxyz0189-", min_size=1, max_size=57),
    secret=st.binary(min_size=32, max_size=32),
)
def test_tokens_round_trip(signer: Signer, kind: str, name: str, secret: bytes) -> None:
    token = token_of(signer, identity=Identity(kind=kind, name=name), secret=secret)  # type: ignore[arg-type]
    assert read_token(f"  {token_text(token)}\n") == token


def test_a_secret_never_reaches_a_log(signer: Signer) -> None:
    assert "secret" not in repr(token_of(signer)) and "x01" not in repr(token_of(signer))
    assert digest_of(bytes(32)).hex() == "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


def test_a_line_that_was_cut_or_mistyped_is_told_without_being_repeated(signer: Signer) -> None:
    text = token_text(token_of(signer))
    middle = len(text) // 2
    swapped = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    for wrong in (text[:-1], text[:-12], swapped, text[1:], "", "hello", "fedcore2" + text[8:], text + "."):
        with pytest.raises(CertificateError, match="join token") as caught:
            read_token(wrong)
        assert "AAECAw" not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_no_token(text: str) -> None:
    with pytest.raises(CertificateError):
        read_token(text)


def test_a_token_file_is_named_where_it_cannot_be_read(signer: Signer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(CertificateError, match=r"token cannot be read: No such file"):
        read_token_file(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CertificateError, match=r"token cannot be read"):
        read_token_file(path)
    path.write_text("hello")
    with pytest.raises(CertificateError, match=r"token: expected a join token"):
        read_token_file(path)
    path.write_text(token_text(token_of(signer)) + "\n")
    assert read_token_file(path) == token_of(signer)
