"""Every error of ours arrives at the far side as itself, whatever the kind of call."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from fedcore.core.errors import DataError, FedcoreError
from fedcore.protos.faults import STATUS, error_of
from fedcore.protos.service import FleetServicer, FleetStub, add_FleetServicer_to_server
from fedcore.protos.v1 import blob_pb2, device_pb2, fleet_pb2
from fedcore.server.members.interceptor import MAX_DETAIL, ErrorInterceptor
from tests.tiny_run import PATIENCE_S


class Failing(FleetServicer):
    """Fails every call with `error`, streams after one message."""

    def __init__(self) -> None:
        self.error: Exception = DataError("unset")

    async def DescribeRun(self, request: Any, context: Any) -> Any:
        raise self.error

    async def PutBlob(self, requests: Any, context: Any) -> Any:
        raise self.error

    async def GetBlob(self, request: Any, context: Any) -> None:
        await context.write(blob_pb2.GetBlobResponse(chunk=b"first"))
        raise self.error

    async def Connect(self, requests: Any, context: Any) -> None:
        await context.write(fleet_pb2.ConnectResponse())
        raise self.error


@pytest.fixture
async def failing() -> AsyncIterator[tuple[Failing, Any]]:
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    servicer = Failing()
    add_FleetServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, FleetStub(channel)  # type: ignore[no-untyped-call]
    await server.stop(0.0)


async def fault_of(stub: Any, method: str) -> FedcoreError:
    async def call() -> None:
        match method:
            case "DescribeRun":
                await stub.DescribeRun(device_pb2.DescribeRunRequest())
            case "PutBlob":
                await stub.PutBlob()
            case "GetBlob":
                async for _ in stub.GetBlob(blob_pb2.GetBlobRequest()):
                    pass
            case "Connect":
                async for _ in stub.Connect():
                    pass

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call(), PATIENCE_S)
    return error_of(caught.value, "target")


@pytest.mark.parametrize("method", ["DescribeRun", "PutBlob", "GetBlob", "Connect"])
async def test_an_error_keeps_its_kind_and_its_words(method: str, failing: tuple[Failing, Any]) -> None:
    servicer, stub = failing
    for kind in STATUS:
        servicer.error = kind("Zeile größer als 3 行; do this")
        error = await fault_of(stub, method)
        assert type(error) is kind and str(error) == "Zeile größer als 3 行; do this"


async def test_long_words_are_cut_so_that_they_arrive(failing: tuple[Failing, Any]) -> None:
    servicer, stub = failing
    servicer.error = DataError("行" * 100_000)
    error = await fault_of(stub, "DescribeRun")
    assert type(error) is DataError and str(error) == "行" * ((MAX_DETAIL - 3) // 3) + "..."


async def test_a_mistake_of_ours_is_no_error_of_the_users(failing: tuple[Failing, Any]) -> None:
    servicer, stub = failing
    servicer.error = ZeroDivisionError("a mistake")
    error = await fault_of(stub, "DescribeRun")
    assert type(error).__name__ == "TransportError" and "UNKNOWN" in str(error)
