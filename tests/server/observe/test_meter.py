"""Bytes of gRPC messages are counted as encoded, in all four kinds of calls."""

from collections import Counter
from typing import Any

import grpc
import pytest

from fedcore.protos.service import FleetServicer, FleetStub, add_FleetServicer_to_server
from fedcore.protos.v1 import blob_pb2, device_pb2, fleet_pb2
from fedcore.server.members.interceptor import ErrorInterceptor
from fedcore.server.observe.meter import MeterInterceptor

CHUNK = blob_pb2.GetBlobResponse(chunk=bytes(5000))
DESCRIPTION = device_pb2.DescribeRunResponse(run_id="run", labels=["a", "b"])
WORD = fleet_pb2.ConnectResponse(goodbye=fleet_pb2.Goodbye(reason="over"))


class Answering(FleetServicer):
    """Answers every call with what is known."""

    async def DescribeRun(self, request: Any, context: Any) -> Any:
        return DESCRIPTION

    async def GetBlob(self, request: Any, context: Any) -> None:
        await context.write(CHUNK)
        await context.write(CHUNK)

    async def PutBlob(self, requests: Any, context: Any) -> Any:
        async for _ in requests:
            pass
        return blob_pb2.PutBlobResponse(received=7)

    async def Connect(self, requests: Any, context: Any) -> None:
        async for _ in requests:
            await context.write(WORD)


async def call(stub: Any, method: str, request: Any) -> None:
    match method:
        case "DescribeRun":
            await stub.DescribeRun(request)
        case "GetBlob":
            async for _ in stub.GetBlob(request):
                pass
        case "PutBlob":
            await stub.PutBlob(iter([request, request]))
        case "Connect":
            async for _ in stub.Connect(iter([request, request])):
                pass


@pytest.mark.parametrize(
    ("method", "request_message", "up", "down"),
    [
        ("DescribeRun", device_pb2.DescribeRunRequest(), 1, DESCRIPTION.ByteSize()),
        ("GetBlob", blob_pb2.GetBlobRequest(id="sha256:ab", offset=3), 1, 2 * CHUNK.ByteSize()),
        ("PutBlob", blob_pb2.PutBlobRequest(chunk=bytes(999)), 2, blob_pb2.PutBlobResponse(received=7).ByteSize()),
        ("Connect", fleet_pb2.ConnectRequest(heartbeat=device_pb2.Heartbeat()), 2, 2 * WORD.ByteSize()),
    ],
)
async def test_every_message_is_counted_once(method: str, request_message: Any, up: int, down: int) -> None:
    moved: Counter[str] = Counter()
    meter = MeterInterceptor(lambda direction, size: moved.update({direction: size}))
    server = grpc.aio.server(interceptors=[ErrorInterceptor(), meter])
    add_FleetServicer_to_server(Answering(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await call(FleetStub(channel), method, request_message)  # type: ignore[no-untyped-call]
    await server.stop(0.0)
    assert moved == Counter(up=up * request_message.ByteSize(), down=down)
