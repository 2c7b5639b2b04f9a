"""Opening a port: the address is told as it is, and a port that cannot be had is an error with a way out."""

from pathlib import Path

import grpc
import pytest

from fedcore.core.errors import RunError
from fedcore.protos.wire import CHANNEL_OPTIONS
from fedcore.server.process.listening import listen
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import load_material


def server() -> grpc.aio.Server:
    return grpc.aio.server(options=list(CHANNEL_OPTIONS))


async def test_any_free_port_is_told() -> None:
    one, other = server(), server()
    first = await listen(one, "127.0.0.1:0", None, remedy="?")
    second = await listen(other, "localhost:0", None, remedy="?")
    assert first.startswith("127.0.0.1:") and second.startswith("localhost:")
    assert 0 < int(first.rpartition(":")[2]) != int(second.rpartition(":")[2]) > 0
    for each in (one, other):
        await each.stop(None)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_port_in_use_is_refused_with_the_remedy(secure: bool, tmp_path: Path) -> None:
    create_authority(tmp_path)
    issue(tmp_path, "coordinator", kind="coordinator")
    tls = load_material(tmp_path, "coordinator") if secure else None
    one, other = server(), server()
    address = await listen(one, "127.0.0.1:0", tls, remedy="?")
    with pytest.raises(
        RunError, match=f"cannot listen on {address}: the port is in use.*; choose another with --listen"
    ):
        await listen(other, address, tls, remedy="choose another with --listen HOST:PORT")
    for each in (one, other):
        await each.stop(None)


async def test_an_address_of_another_machine_is_refused() -> None:
    one = server()
    with pytest.raises(RunError, match="or the address is not this machine's; say --listen"):
        await listen(one, "192.0.2.1:0", None, remedy="say --listen")
    await one.stop(None)
