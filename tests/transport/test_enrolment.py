"""Enrolment from the machine's side: one key for all tries, retries for a while, errors that say what to do."""

from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

import fedcore.transport.enrolment as module
from fedcore.core.errors import CertificateError, TransportError
from fedcore.protos.values import EnrolmentRequest
from fedcore.storage.pki.authority import create_authority
from fedcore.storage.pki.certificates import load_material, read_identity
from fedcore.storage.pki.token_text import JoinToken
from fedcore.storage.pki.tokens import redeem
from fedcore.transport.enrolment import enrol
from tests.server.authority import token_for

DOWN = TransportError("coord:1: UNAVAILABLE: down")


class FakeServer:
    """Answers requests in turn: raises an exception, or redeems the token where the answer is None."""

    def __init__(self, certs: Path, *answers: Exception | None) -> None:
        self.certs, self.answers = certs, list(answers)
        self.requests: list[EnrolmentRequest] = []

    async def ask(self, target: str, ca: bytes, request: EnrolmentRequest) -> bytes:
        assert (target, ca) == ("coord:1", (self.certs / "ca.pem").read_bytes())
        self.requests.append(request)
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        certificate = redeem(self.certs, request.token, request.secret, request.csr, note=request.note)
        return certificate.public_bytes(Encoding.DER)


@pytest.fixture
def certs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.001)
    create_authority(tmp_path / "authority")
    return tmp_path / "authority"


@pytest.fixture
def token(certs: Path) -> JoinToken:
    return token_for(certs, "device", "cam-1")


async def test_a_machine_has_its_pair_after_retries_with_one_key(
    certs: Path, token: JoinToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, messages = FakeServer(certs, DOWN, DOWN, None), []
    monkeypatch.setattr(module, "_ask", server.ask)
    path = await enrol("coord:1", token, tmp_path / "mine", "cam-1", wait_s=60, say=messages.append)
    assert path == tmp_path / "mine" / "cam-1.pem"
    assert str(read_identity(load_material(tmp_path / "mine", "cam-1").certificate)) == "device:cam-1"
    assert len({request.csr for request in server.requests}) == 1
    assert {(request.token, request.note) for request in server.requests} == {(token.id, "cam-1")}
    assert messages == [f"{DOWN}; trying again for up to 60 s"], "an error that repeats is reported once"


async def test_a_server_that_never_answers_is_given_up(
    certs: Path, token: JoinToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, messages = FakeServer(certs, DOWN), []
    monkeypatch.setattr(module, "_ask", server.ask)
    with pytest.raises(TransportError, match=r"down; gave up after 0 s: is `fedcore serve --enrol` running"):
        await enrol("coord:1", token, tmp_path / "mine", "cam-1", wait_s=0, say=messages.append)
    assert messages == []
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["cam-1.key.new"], "the key of the next try"


async def test_an_interrupted_enrolment_continues_with_its_key(
    certs: Path, token: JoinToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(certs, DOWN, None)
    monkeypatch.setattr(module, "_ask", server.ask)
    with pytest.raises(TransportError):
        await enrol("coord:1", token, tmp_path / "mine", "cam-1", wait_s=0, say=lambda _: None)
    key = (tmp_path / "mine" / "cam-1.key.new").read_bytes()
    await enrol("coord:1", token, tmp_path / "mine", "cam-1", wait_s=0, say=lambda _: None)
    assert (tmp_path / "mine" / "cam-1.key").read_bytes() == key


async def test_a_refusal_ends_the_tries(
    certs: Path, token: JoinToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeServer(certs, CertificateError("the join token for device:cam-1 has expired; ask for a new one"), None)
    monkeypatch.setattr(module, "_ask", server.ask)
    with pytest.raises(CertificateError, match="has expired"):
        await enrol("coord:1", token, tmp_path / "mine", "cam-1", wait_s=60, say=lambda _: None)
    assert len(server.requests) == 1


def test_too_many_machines_at_once_is_worth_another_try() -> None:
    fault = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata())
    error = module._fault(fault, "coord:1")
    assert (type(error), str(error)) == (TransportError, "coord:1: too many machines enrol at once")
