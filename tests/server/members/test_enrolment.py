"""Enrolment over real TLS: from a token to a seat in a run, once; and what is told to those who may not."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedcore.core.errors import CertificateError, RunError, TransportError
from fedcore.protos.convert import enrolment as wire
from fedcore.protos.service import EnrolmentStub, FleetStub
from fedcore.protos.v1 import device_pb2
from fedcore.protos.values import EnrolmentRequest
from fedcore.server.members.enrolment import MAX_REQUEST_BYTES, REFUSAL_S, serving_enrolment
from fedcore.storage.pki.authority import create_authority
from fedcore.storage.pki.authority_record import record_transaction
from fedcore.storage.pki.certificates import Identity, load_material, read_identity
from fedcore.storage.pki.device_key import signing_request
from fedcore.storage.pki.token_text import JoinToken
from fedcore.storage.pki.tokens import UNKNOWN
from fedcore.transport.enrolment import enrol
from tests.fault_proxy import FaultProxy, Way
from tests.server.authority import enrolled_material, make_authority, token_for
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving, timeout

Together = Callable[..., Any]


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_authority(tmp_path / "certs")


@dataclass
class Desk:
    """A served enrolment."""

    certs: Path
    address: str
    said: list[str] = field(default_factory=list)

    @property
    def ca(self) -> bytes:
        return (self.certs / "ca.pem").read_bytes()

    async def ask(self, token: JoinToken, /, **changes: Any) -> bytes:
        """Redeem a token with a new key, without the client's own care."""
        key = ec.generate_private_key(ec.SECP256R1())
        values: dict[str, Any] = {"token": token.id, "secret": token.secret, "csr": signing_request(key, "x")}
        request = wire.request_to_pb(EnrolmentRequest(**(values | changes)))
        async with grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(self.ca)) as channel:
            return wire.response_from_pb(await EnrolmentStub(channel).Enrol(request, timeout=PATIENCE_S))


async def enrolling_at(served: Served) -> str:
    """Where a coordinator enrols; it says so a moment after it has begun to listen."""
    async with timeout(PATIENCE_S):
        while True:
            for words in served.said:
                if words.startswith("enrolling on "):
                    return words.removeprefix("enrolling on ")
            await asyncio.sleep(0.01)


@asynccontextmanager
async def desk_of(certs: Path) -> AsyncIterator[Desk]:
    said: list[str] = []
    tls = load_material(certs, "coordinator")
    async with serving_enrolment(certs, "127.0.0.1:0", tls, said.append) as address:
        yield Desk(certs, address, said)


@pytest.fixture
async def desk(certs: Path) -> AsyncIterator[Desk]:
    async with desk_of(certs) as desk:
        yield desk


async def test_from_tokens_to_seats_in_a_run(tiny: TinyModel, certs: Path, tmp_path: Path, together: Together) -> None:
    """One machine has a token of its own, the other one of its class; both bring nothing else."""
    tls = load_material(certs, "coordinator")
    options = {"tls": tls, "certs": certs, "enrol": "127.0.0.1:0"}
    async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"], **options) as served:
        address = await enrolling_at(served)
        by_name, by_class = token_for(certs, "device", "cam-1"), token_for(certs, "class", "tiny")
        first = await enrolled_material(address, by_name, tmp_path / "cam-1")
        second = await enrolled_material(address, by_class, tmp_path / "any", "any-name")
        devices = (
            tiny.device(served, "cam-1", tmp_path, tls=first),
            tiny.device(served, "any-name", tmp_path, tls=second),
        )
        assert await together(*devices) == ["the run has finished"] * 2
        assert (await served.summary())["rounds"][0]["accepted"] == 2
        assert any(each.startswith("enrolled any-name as class:tiny, serial ") for each in served.said)
    with record_transaction(certs) as record:
        notes = {str(each.identity): each.note for each in record.certificates()}
    assert notes == {"coordinator:coordinator": "", "device:cam-1": "cam-1", "class:tiny": "any-name"}


async def test_a_token_is_good_once(desk: Desk, tmp_path: Path) -> None:
    token = token_for(desk.certs, "device", "cam-1")
    await enrolled_material(desk.address, token, tmp_path / "first")
    began = time.monotonic()
    with pytest.raises(CertificateError, match="the join token for device:cam-1 has been used, by another key"):
        await enrolled_material(desk.address, token, tmp_path / "second")
    assert time.monotonic() - began >= REFUSAL_S
    assert not (tmp_path / "second" / "cam-1.pem").exists()
    assert any("refused: the join token for device:cam-1 has been used" in each for each in desk.said)


async def test_of_two_at_once_one_is_enrolled(desk: Desk, tmp_path: Path) -> None:
    token = token_for(desk.certs, "device", "cam-1")
    asked = [enrolled_material(desk.address, token, tmp_path / str(number)) for number in range(2)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == ["CertificateError", "TlsMaterial"]


async def test_a_lost_answer_is_had_again(desk: Desk, tmp_path: Path) -> None:
    """The connection is cut while the certificate is under way: the next try brings the same one."""
    proxy = FaultProxy(desk.address)
    await proxy.start()
    try:
        await enrolled_material(proxy.address, token_for(desk.certs, "device", "cam-0"), tmp_path / "cam-0")
        whole = proxy.carried[Way.DOWN]
        token = token_for(desk.certs, "device", "cam-1")
        proxy.cut(Way.DOWN, whole - 400)
        said: list[str] = []
        await enrol(proxy.address, token, tmp_path / "cam-1", "cam-1", wait_s=10.0, say=said.append)
        assert proxy.cuts == 1 and any("trying again" in each for each in said)
    finally:
        await proxy.die()
    with record_transaction(desk.certs) as record:
        issued = record.certificates(Identity(kind="device", name="cam-1"))
    held = read_identity(load_material(tmp_path / "cam-1", "cam-1").certificate)
    assert [each.serial for each in issued] == [held.serial]
    assert len([each for each in desk.said if "as device:cam-1" in each]) == 2, "it had been enrolled before the cut"


async def test_renewal_takes_a_new_token_and_keeps_the_old_pair_until_then(desk: Desk, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    first = await enrolled_material(desk.address, token_for(desk.certs, "device", "cam-1"), mine)
    expired = token_for(desk.certs, "device", "cam-1", hours=-1.0)
    with pytest.raises(CertificateError, match="has expired"):
        await enrolled_material(desk.address, expired, mine, replace=True)
    assert load_material(mine, "cam-1") == first
    second = await enrolled_material(desk.address, token_for(desk.certs, "device", "cam-1"), mine, replace=True)
    assert second.certificate != first.certificate and second.key != first.key


async def test_strangers_hear_one_sentence_and_the_terminal_is_not_theirs(desk: Desk) -> None:
    token = token_for(desk.certs, "device", "cam-1")
    for changes in ({"secret": bytes(32)}, {"token": "f" * 16}, {"token": "", "secret": b"", "csr": b""}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await desk.ask(token, **changes)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details() == UNKNOWN
    assert [each for each in desk.said if "refused" in each] == [f"enrolment refused: {UNKNOWN}"]
    assert await desk.ask(token), "the token is as good as before"


async def test_a_request_beyond_the_bound_is_not_read(desk: Desk) -> None:
    token = token_for(desk.certs, "device", "cam-1")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await desk.ask(token, csr=bytes(MAX_REQUEST_BYTES))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await desk.ask(token)


@pytest.mark.parametrize("note", ["", "x" * 64, "Line\nbreak", "cam-1"])
async def test_only_a_name_is_noted(desk: Desk, note: str) -> None:
    await desk.ask(token_for(desk.certs, "class", "agx"), note=note)
    with record_transaction(desk.certs) as record:
        (issued,) = record.certificates(Identity(kind="class", name="agx"))
    assert issued.note == ("cam-1" if note == "cam-1" else "")


async def test_nothing_but_enrolment_is_served_without_a_certificate(desk: Desk) -> None:
    async with grpc.aio.secure_channel(desk.address, grpc.ssl_channel_credentials(desk.ca)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await FleetStub(channel).DescribeRun(device_pb2.DescribeRunRequest(), timeout=PATIENCE_S)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_server_of_another_authority_learns_no_secret(desk: Desk, tmp_path: Path) -> None:
    """The token says whom to trust: a server that cannot show it is told nothing."""
    other = make_authority(tmp_path / "other")
    token = token_for(other, "device", "cam-1")
    with pytest.raises(CertificateError, match="TLS handshake failed"):
        await enrolled_material(desk.address, token, tmp_path / "mine")
    assert not desk.said[1:]


async def test_the_ports_are_told_apart(tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    tls = load_material(certs, "coordinator")
    token = token_for(certs, "device", "cam-1")
    async with serving(tmp_path / "run", tiny.folder, tls=tls, certs=certs) as served:
        with pytest.raises((TransportError, CertificateError)) as caught:
            await enrolled_material(served.address, token, tmp_path / "mine", wait_s=0.0)
    assert "is this its port?" in str(caught.value)
    async with serving(tmp_path / "open", tiny.folder) as served:
        with pytest.raises(CertificateError, match="does not talk TLS"):
            await enrolled_material(served.address, token, tmp_path / "mine", wait_s=0.0)


async def test_nobody_there_is_told_after_a_while(certs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(TransportError, match=r"gave up after 1\.2 s: is `fedcore serve --enrol` running"):
        await enrol("127.0.0.1:1", token_for(certs, "device", "a"), tmp_path / "mine", "a", wait_s=1.2, say=said.append)
    assert len(said) == 1 and "trying again" in said[0]
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["a.key.new"]


async def test_a_machine_waits_for_its_server(certs: Path, tmp_path: Path) -> None:
    tls = load_material(certs, "coordinator")
    async with serving_enrolment(certs, "127.0.0.1:0", tls, lambda _: None) as address:
        pass
    waiting = asyncio.create_task(enrolled_material(address, token_for(certs, "device", "a"), tmp_path / "mine"))
    await asyncio.sleep(0.2)
    async with serving_enrolment(certs, address, tls, lambda _: None):
        assert read_identity((await asyncio.wait_for(waiting, PATIENCE_S)).certificate).name == "a"


async def test_only_the_authoritys_own_folder_can_enrol(certs: Path) -> None:
    (certs / "ca.key").rename(certs / "elsewhere.key")
    with pytest.raises(CertificateError, match=r"ca\.key is missing"):
        async with desk_of(certs):
            raise AssertionError("it listens")


async def test_a_port_in_use_is_named(certs: Path) -> None:
    tls = load_material(certs, "coordinator")
    async with serving_enrolment(certs, "127.0.0.1:0", tls, lambda _: None) as address:
        with pytest.raises(RunError, match=f"cannot listen on {address}.*--enrol HOST:PORT"):
            async with serving_enrolment(certs, address, tls, lambda _: None):
                raise AssertionError("it listens twice")


async def test_many_enrol_at_once(desk: Desk, tmp_path: Path) -> None:
    tokens = [token_for(desk.certs, "device", f"cam-{number}") for number in range(12)]
    work = [enrolled_material(desk.address, token, tmp_path / token.id) for token in tokens]
    materials = await asyncio.wait_for(asyncio.gather(*work), PATIENCE_S)
    assert [read_identity(each.certificate).name for each in materials] == [f"cam-{n}" for n in range(12)]


async def test_an_authority_made_anew_refuses_old_tokens(desk: Desk, tmp_path: Path) -> None:
    """The port still shows the old authority's certificate; the record behind it is the new one's."""
    token = token_for(desk.certs, "device", "cam-1")
    create_authority(desk.certs, force=True)
    with pytest.raises(CertificateError, match="not known here"):
        await enrolled_material(desk.address, token, tmp_path / "mine")


async def test_a_closed_channel_ends_quietly(desk: Desk) -> None:
    """A caller that hangs up in the middle of a refusal's pause does no harm."""
    token = token_for(desk.certs, "device", "cam-1")
    with contextlib.suppress(asyncio.TimeoutError):
        async with timeout(REFUSAL_S / 2):
            await desk.ask(token, secret=bytes(32))
    assert await desk.ask(token)
