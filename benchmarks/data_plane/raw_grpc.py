"""The limit: the same bytes over bare grpc.aio streams, counted and thrown away. No disk, no hash, no protobuf.

    python -m benchmarks.data_plane.raw_grpc server SPEC.json
    python -m benchmarks.data_plane.raw_grpc client SPEC.json

Every client process downloads `payload_bytes` and then uploads as many, `rounds` times; a call that returns once all
clients have made it keeps their rounds together. The server prints the seconds of every round.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc

from benchmarks.data_plane.device import CERTIFICATE
from fedcore.protos.wire import CHANNEL_OPTIONS, CHUNK_BYTES
from fedcore.storage.atomic import write_atomic
from fedcore.storage.pki.certificates import load_material

SERVICE = "raw"
PATIENCE_S = 600.0


class RawServer:
    """Counts bytes, and times rounds between meetings of all clients."""

    def __init__(self, clients: int, payload_bytes: int, rounds: int) -> None:
        self._clients, self._payload_bytes, self._rounds = clients, payload_bytes, rounds
        self.over = asyncio.Event()
        self._chunk = bytes(CHUNK_BYTES)
        self._waiting: list[asyncio.Future[None]] = []
        self.met_s: list[float] = []

    async def meet(self, request: bytes, context: Any) -> bytes:
        """Return once every client has called."""
        here: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(here)
        if len(self._waiting) == self._clients:
            self.met_s.append(time.monotonic())
            for caller in self._waiting:
                caller.set_result(None)
            self._waiting.clear()
            if len(self.met_s) > self._rounds:
                self.over.set()
        await here
        return b""

    async def download(self, request: bytes, context: Any) -> None:
        """Send the payload."""
        for size in slices(self._payload_bytes):
            await context.write(self._chunk if size == CHUNK_BYTES else self._chunk[:size])

    async def upload(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        """Take a payload."""
        received = 0
        async for chunk in requests:
            received += len(chunk)
        return str(received).encode()

    def handler(self) -> grpc.GenericRpcHandler:
        """The three calls, without serialisers: bytes in, bytes out."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Meet": grpc.unary_unary_rpc_method_handler(self.meet),
                "Download": grpc.unary_stream_rpc_method_handler(self.download),
                "Upload": grpc.stream_unary_rpc_method_handler(self.upload),
            },
        )


def slices(payload_bytes: int) -> list[int]:
    """Sizes of the chunks a payload travels in."""
    whole, rest = divmod(payload_bytes, CHUNK_BYTES)
    return [CHUNK_BYTES] * whole + [rest] * (rest > 0)


async def serve(spec: Mapping[str, Any]) -> None:
    """Serve until every round is over; write the address to the spec's endpoint, round times to its result."""
    server = grpc.aio.server(options=list(CHANNEL_OPTIONS))
    raw = RawServer(spec["devices"], spec["payload_bytes"], spec["rounds"])
    server.add_generic_rpc_handlers((raw.handler(),))
    if spec["certs"]:
        tls = load_material(Path(spec["certs"]), "coordinator")
        credentials = grpc.ssl_server_credentials([(tls.key, tls.certificate)], tls.ca, require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    write_atomic(Path(spec["endpoint"]), f"127.0.0.1:{port}".encode())
    await asyncio.wait_for(raw.over.wait(), PATIENCE_S)
    write_atomic(Path(spec["result"]), json.dumps(raw.met_s).encode())
    await server.stop(1.0)


async def exchange(spec: Mapping[str, Any]) -> None:
    """Be one client: all rounds, down and up."""
    target = Path(spec["endpoint"]).read_text(encoding="utf-8")
    options = list(CHANNEL_OPTIONS)
    if spec["certs"]:
        tls = load_material(Path(spec["certs"]), CERTIFICATE)
        credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
        channel = grpc.aio.secure_channel(target, credentials, options=options)
    else:
        channel = grpc.aio.insecure_channel(target, options=options)
    chunk = bytes(CHUNK_BYTES)
    async with channel:
        meet, download = channel.unary_unary(f"/{SERVICE}/Meet"), channel.unary_stream(f"/{SERVICE}/Download")
        upload = channel.stream_unary(f"/{SERVICE}/Upload")
        await meet(b"", timeout=PATIENCE_S)
        for _ in range(spec["rounds"]):
            received = 0
            async for message in download(b"", timeout=PATIENCE_S):
                received += len(message)
            call = upload(timeout=PATIENCE_S)
            for size in slices(spec["payload_bytes"]):
                await call.write(chunk if size == CHUNK_BYTES else chunk[:size])
            await call.done_writing()
            if int(await call) != spec["payload_bytes"] or received != spec["payload_bytes"]:
                raise SystemExit(f"expected {spec['payload_bytes']} bytes each way, got {received} down")
            await meet(b"", timeout=PATIENCE_S)


if __name__ == "__main__":
    role, arguments = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    asyncio.run(serve(arguments) if role == "server" else exchange(arguments))
