import asyncio
import datetime
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from fedcore.core.errors import CertificateError, TransportError
from fedcore.storage.pki.authority import create_authority
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.tokens import make_tokens
from fedcore.transport.enrolment import enrol
from fedcore.transport.reaching import PROXY_VARIABLES, fault_error, is_own_machine, unreached
from tests.fake_device import open_link
from tests.tiny_run import serving, write_model

NOBODY = "127.0.0.1:1"


@pytest.fixture(params=[*PROXY_VARIABLES, *(name.upper() for name in PROXY_VARIABLES)])
async def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[bytes]]:
    """What reaches a proxy that one of the environment's variables names."""
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    for name in (*PROXY_VARIABLES, "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(request.param, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield heard
    server.close()


async def test_a_link_asks_no_proxy(asked: list[bytes]) -> None:
    link = open_link(NOBODY)
    with pytest.raises(TransportError, match=r"^127\.0\.0\.1:1: UNAVAILABLE"):
        await link.describe()
    await link.close()
    assert asked == []


async def test_enrolment_asks_no_proxy(asked: list[bytes], tmp_path: Path) -> None:
    create_authority(tmp_path / "certs")
    token = make_tokens(tmp_path / "certs", Identity(kind="device", name="cam-1"), valid=datetime.timedelta(hours=1))[0]
    with pytest.raises(TransportError, match=r"^127\.0\.0\.1:1: UNAVAILABLE"):
        await enrol(NOBODY, token, tmp_path / "mine", "cam-1", wait_s=0.0, say=print)
    assert asked == []


async def test_a_coordinator_is_reached_though_a_proxy_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    write_model(tmp_path / "model")
    async with serving(tmp_path / "run", tmp_path / "model") as run:
        link = open_link(run.address)
        assert (await link.describe()).labels == ("a", "b")
        await link.close()


@pytest.mark.parametrize("name", [*PROXY_VARIABLES, "HTTPS_PROXY"])
def test_a_proxy_that_is_not_used_is_named_where_a_target_is_not_reached(name: str) -> None:
    error = unreached("coord:8443: no answer for 30 s", "coord:8443", {name: "http://proxy:3128"})
    assert str(error) == (
        f"coord:8443: no answer for 30 s ({name} is set, but fedcore goes through no proxy: open the way to coord:8443)"
    )


@pytest.mark.parametrize("environment", [{}, {"http_proxy": " "}, {"no_proxy": "x"}])
def test_without_a_proxy_none_is_named(environment: dict[str, str]) -> None:
    assert str(unreached("coord:8443: gone", "coord:8443", environment)) == "coord:8443: gone"


@pytest.mark.parametrize("target", ["127.0.0.1:1", "127.8.0.1:1", "[::1]:1", "localhost:1", "a.localhost:1"])
def test_a_proxy_is_not_blamed_on_one_machine(target: str) -> None:
    assert is_own_machine(target)
    assert str(unreached("gone", target, {"http_proxy": "p"})) == "gone"


@pytest.mark.parametrize("target", ["10.0.0.1:1", "coord.example:8443", "[fd00::1]:1", "localhost.example:1"])
def test_other_machines_are_told_apart(target: str) -> None:
    assert not is_own_machine(target)


def test_only_what_is_not_reached_may_be_a_proxys_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    none = grpc.aio.Metadata()

    def fault(details: str) -> grpc.aio.AioRpcError:
        return grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, none, none, details)

    refused = fault_error(fault("Connection refused"), "coord:1")
    assert isinstance(refused, TransportError) and "https_proxy is set" in str(refused)
    broken = fault_error(fault("CERTIFICATE_VERIFY_FAILED"), "coord:1")
    assert isinstance(broken, CertificateError) and "proxy" not in str(broken)
