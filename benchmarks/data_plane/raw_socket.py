"""The other limit: the same bytes over plain TCP sockets, one thread per connection in the server.

    python -m benchmarks.data_plane.raw_socket server|client SPEC.json

One byte from the server starts a round for a client; it reads `payload_bytes`, writes as many, and waits for the next.
"""

import json
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcore.protos.wire import CHUNK_BYTES
from fedcore.storage.atomic import write_atomic

PATIENCE_S = 600.0


def serve(spec: Mapping[str, Any]) -> None:
    """Serve all rounds; write the address to the spec's endpoint, round times to its result."""
    clients, rounds, size = spec["devices"], spec["rounds"], spec["payload_bytes"]
    met_s: list[float] = []
    together = threading.Barrier(clients, action=lambda: met_s.append(time.monotonic()), timeout=PATIENCE_S)

    def one(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(rounds):
                together.wait()
                connection.sendall(b"!")
                send(connection, size)
                receive(connection, size)
            together.wait()

    with socket.create_server(("127.0.0.1", 0), backlog=clients) as listener:
        listener.settimeout(PATIENCE_S)
        write_atomic(Path(spec["endpoint"]), f"127.0.0.1:{listener.getsockname()[1]}".encode())
        threads = [threading.Thread(target=one, args=(listener.accept()[0],), daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
    write_atomic(Path(spec["result"]), json.dumps(met_s).encode())


def exchange(spec: Mapping[str, Any]) -> None:
    """Be one client: all rounds, down and up."""
    host, _, port = Path(spec["endpoint"]).read_text(encoding="utf-8").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(spec["rounds"]):
            receive(connection, 1 + spec["payload_bytes"])
            send(connection, spec["payload_bytes"])


def send(connection: socket.socket, size: int) -> None:
    """Send `size` bytes in chunks."""
    chunk = bytes(CHUNK_BYTES)
    for start in range(0, size, CHUNK_BYTES):
        connection.sendall(chunk if size - start >= CHUNK_BYTES else chunk[: size - start])


def receive(connection: socket.socket, size: int) -> None:
    """Read exactly `size` bytes into one buffer; raises ConnectionError where the other side closes before."""
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while size:
        got = connection.recv_into(buffer[: min(size, CHUNK_BYTES)])
        if not got:
            raise ConnectionError(f"the other side closed with {size} bytes missing")
        size -= got


if __name__ == "__main__":
    role, arguments = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    serve(arguments) if role == "server" else exchange(arguments)
