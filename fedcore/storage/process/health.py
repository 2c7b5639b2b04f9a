"""The health of one of our processes, for a container's health check or a supervisor."""

import socket
import time
from pathlib import Path

from fedcore.core.config.address import check_address
from fedcore.core.errors import RunError
from fedcore.storage.json_file import read_endpoint

ENDPOINTS = (
    "coordinator.json",
    "edge.json",
)  # a coordinator or edge writes its file while it listens: server/run/run_folder.py, server/edge/process.py
WILDCARDS = {"0.0.0.0": "127.0.0.1", "[::]": "::1", "::": "::1", "*": "127.0.0.1"}


def check_health(target: str, *, within_s: float, deadline_s: float = 5.0, now_s: float | None = None) -> str:
    """Return a line that says why `target` is healthy; raises RunError with what is wrong.

    A run folder or an edge's state folder is healthy if the address it names takes a connection, HOST:PORT if that
    address does, and the file of `fedcore join --alive` if it is younger than `within_s`. `now_s` is a Unix time.
    """
    path = Path(target)
    if path.is_dir():
        return _listens(_address_in(path), deadline_s)
    if path.is_file():
        age_s = (time.time() if now_s is None else now_s) - path.stat().st_mtime
        if age_s > within_s:
            raise RunError(f"no parent was heard for {age_s:.0f} s, expected at most {within_s:g} s ({path})")
        return f"heard a parent {max(0.0, age_s):.0f} s ago"
    if ":" not in target:
        raise RunError(f"{target} is not there: it has not joined yet, or is not running")
    return _listens(check_address(target, "health", example="127.0.0.1:8443"), deadline_s)


def _address_in(folder: Path) -> str:
    for name in ENDPOINTS:
        endpoint = read_endpoint(folder / name)
        if endpoint is not None:
            return endpoint.address
    raise RunError(f"nothing in {folder} says where it listens ({' or '.join(ENDPOINTS)}): it is not running")


def _listens(address: str, deadline_s: float) -> str:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((WILDCARDS.get(host, host.strip("[]")), int(port)), timeout=deadline_s).close()
    except OSError as cause:
        raise RunError(f"{address} takes no connection within {deadline_s:g} s ({cause})") from None
    return f"listening on {address}"
