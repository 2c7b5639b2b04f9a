"""The HTTP side of --metrics: a daemon thread that answers scrapes, never the event loop."""

from types import TracebackType
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from fedcore.core.config.address import check_address
from fedcore.core.errors import RunError
from fedcore.server.observe.metrics import RunMetrics

if TYPE_CHECKING:
    from threading import Thread


class MetricsServer:
    """Serves one registry at `address` (HOST:PORT; port 0: any free one) from its making to `close`."""

    def __init__(self, metrics: RunMetrics, address: str) -> None:
        """Begin to answer. Raises ConfigError for a malformed address, RunError where nobody can listen there."""
        host, _, port = check_address(address, "--metrics", example="127.0.0.1:9464", any_port=True).rpartition(":")
        try:
            server, thread = start_http_server(int(port), host.strip("[]"), registry=metrics.registry)
        except OSError as cause:
            raise RunError(
                f"cannot serve metrics on {address}: {cause.strerror or cause}; choose another --metrics HOST:PORT"
            ) from None
        self._server: WSGIServer = server
        self._thread: Thread = thread
        self.url = f"http://{host}:{server.server_port}/metrics"

    def close(self) -> None:
        """Stop answering and free the port; doing so again does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "MetricsServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
