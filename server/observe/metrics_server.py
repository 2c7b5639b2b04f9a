"""The HTTP endpoint of --metrics: a daemon thread, not the event loop, answers scrapes."""

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
    """Serves one registry at `address` (HOST:PORT; port 0: any free port) until `close`."""

    def __init__(self, metrics: RunMetrics, address: str) -> None:
        """Begin to serve. Raises ConfigError for a malformed address, RunError if it is not available."""
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
        """Stop and free the port; a second call does nothing."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> "MetricsServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
