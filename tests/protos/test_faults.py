from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from fedcore.core import errors
from fedcore.protos.faults import STATUS, error_of, status_of
from fedcore.protos.wire import CHANNEL_OPTIONS, ERROR_KEY, MAX_MESSAGE_BYTES
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import TlsMaterial, load_material

METHOD = "/test.Echo/Call"
Behaviour = Callable[[bytes, Any], Awaitable[bytes]]


def fault(code: grpc.StatusCode, details: str | None, *trailing: tuple[str, str]) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(*trailing), details=details)


def test_every_error_of_the_tree_has_a_status() -> None:
    tree = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FedcoreError)}
    assert set(STATUS) == tree - {errors.FedcoreError}


@pytest.mark.parametrize("kind", STATUS)
def test_an_error_comes_back_as_what_it_was(kind: type[errors.FedcoreError]) -> None:
    error = kind("round 3: expected this, got that; do so")
    code = status_of(error)
    assert code is not grpc.StatusCode.OK
    back = error_of(fault(code, str(error), ("other", "x"), (ERROR_KEY, kind.__name__)), "host:1")
    assert type(back) is kind and str(back) == str(error)


def test_an_error_outside_the_tree_is_unknown() -> None:
    class Odd(errors.FedcoreError):
        pass

    assert status_of(Odd("x")) is grpc.StatusCode.UNKNOWN


@pytest.mark.parametrize("name", ["Exception", "FedcoreError", "SystemExit", ""])
def test_only_names_of_the_tree_are_believed(name: str) -> None:
    back = error_of(fault(grpc.StatusCode.INTERNAL, "odd", (ERROR_KEY, name)), "host:1")
    assert type(back) is errors.TransportError and str(back) == "host:1: INTERNAL: odd"


def test_an_error_without_words_has_its_name() -> None:
    back = error_of(fault(grpc.StatusCode.ABORTED, None, (ERROR_KEY, "UpdateLate")), "host:1")
    assert type(back) is errors.UpdateLate and str(back) == "UpdateLate"


WORDS = [
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "Sent message larger", errors.ProtocolError, "host:1: message too large"),
    (
        grpc.StatusCode.UNIMPLEMENTED,
        "Method not found!",
        errors.ProtocolError,
        "host:1: no coordinator of this version",
    ),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline", errors.TransportError, "host:1: DEADLINE_EXCEEDED: Deadline"),
    (grpc.StatusCode.UNAVAILABLE, None, errors.TransportError, "host:1: UNAVAILABLE: no details"),
    (grpc.StatusCode.UNAVAILABLE, "", errors.TransportError, "host:1: UNAVAILABLE: no details"),
    (grpc.StatusCode.UNKNOWN, "first\nsecond", errors.TransportError, "host:1: UNKNOWN: first"),
    (grpc.StatusCode.UNAVAILABLE, "Socket closed", errors.TransportError, "host:1: UNAVAILABLE: Socket closed"),
    (grpc.StatusCode.UNAVAILABLE, "Peer name x is not in peer certificate", errors.CertificateError, "fedcore certs"),
]


@pytest.mark.parametrize(("code", "details", "kind", "message"), WORDS)
def test_a_status_without_an_error_is_read_by_code_and_words(
    code: grpc.StatusCode, details: str | None, kind: type[errors.FedcoreError], message: str
) -> None:
    back = error_of(fault(code, details), "host:1")
    assert type(back) is kind and message in str(back) and "\n" not in str(back)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folders = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    for folder in folders:
        create_authority(folder)
        issue(folder, "coordinator", kind="coordinator")
        issue(folder, "nx-0", kind="device")
    return folders


@asynccontextmanager
async def answering(behaviour: Behaviour, tls: TlsMaterial | None) -> AsyncIterator[int]:
    """A server with one method; yields its port."""
    server = aio.server(options=list(CHANNEL_OPTIONS))
    handler = grpc.unary_unary_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Call": handler}),))
    if tls is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = [(tls.key, tls.certificate)]
        port = server.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials(pair, tls.ca, require_client_auth=True)
        )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def echo(request: bytes, _: Any) -> bytes:
    return request


async def called(port: int, credentials: Any = None, method: str = METHOD, data: bytes = b"x", **options: str) -> Any:
    """The answer of a call, or the error it is read as."""
    target = f"127.0.0.1:{port}"
    settings = [*CHANNEL_OPTIONS, *((f"grpc.{key}", value) for key, value in options.items())]
    channel = (
        aio.secure_channel(target, credentials, options=settings)
        if credentials is not None
        else aio.insecure_channel(target, options=settings)
    )
    async with channel:
        try:
            return await channel.unary_unary(method)(data, timeout=10)
        except aio.AioRpcError as error:
            return error_of(error, "host:1")


def credentials(ca: Path, own: Path | None) -> Any:
    mine = load_material(own or ca, "nx-0")
    pair = (mine.key, mine.certificate) if own is not None else (None, None)
    return grpc.ssl_channel_credentials(load_material(ca, "nx-0").ca, *pair)


async def test_tls_failures_say_what_to_do(authorities: tuple[Path, Path]) -> None:
    ours, theirs = authorities
    async with answering(echo, load_material(ours, "coordinator")) as port:
        assert await called(port, credentials(ours, ours)) == b"x"

        stranger = await called(port, credentials(theirs, theirs))
        assert type(stranger) is errors.CertificateError and "certificates of the same authority" in str(stranger)

        renamed = await called(port, credentials(ours, ours), ssl_target_name_override="elsewhere.example")
        assert type(renamed) is errors.CertificateError and "fedcore certs --host" in str(renamed)

        for refused in (credentials(ours, theirs), credentials(ours, None), None):
            back = await called(port, refused)
            assert type(back) is errors.TransportError and "does not accept this side's certificate" in str(back)


async def test_tls_to_a_server_without_it_is_said(authorities: tuple[Path, Path]) -> None:
    async with answering(echo, None) as port:
        back = await called(port, credentials(authorities[0], authorities[0]))
        assert type(back) is errors.CertificateError and str(back).startswith("host:1 does not talk TLS")


async def test_too_large_a_message_is_a_broken_protocol_either_way() -> None:
    large = bytes(MAX_MESSAGE_BYTES + 1)

    async def swell(request: bytes, _: Any) -> bytes:
        return large

    async with answering(swell, None) as port:
        for data in (b"x", large):
            back = await called(port, data=data)
            assert type(back) is errors.ProtocolError and "message too large for the wire" in str(back)


async def test_another_server_is_no_coordinator() -> None:
    async with answering(echo, None) as port:
        assert type(await called(port, method="/test.Echo/Other")) is errors.ProtocolError


async def test_a_missing_server_is_a_transport_error() -> None:
    async with answering(echo, None) as port:
        pass
    back = await called(port)
    assert type(back) is errors.TransportError and "Connection refused" in str(back)


async def test_the_class_survives_a_real_call() -> None:
    async def refuse(request: bytes, context: Any) -> bytes:
        error = errors.BlobCorrupt("sha256:0 hashes to another name; send it again")
        await context.abort(status_of(error), str(error), ((ERROR_KEY, type(error).__name__),))
        return b""

    async with answering(refuse, None) as port:
        back = await called(port)
        assert type(back) is errors.BlobCorrupt and str(back).endswith("send it again")
