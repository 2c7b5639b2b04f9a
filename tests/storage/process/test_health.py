"""Health: a port that takes a connection, a file that is young, and the words where they are not."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcore.core.errors import ConfigError, RunError
from fedcore.storage.process.health import check_health


@pytest.fixture
def port() -> Iterator[int]:
    """A port with a listening server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.mark.parametrize("name", ["coordinator.json", "edge.json"])
def test_a_folder_says_where_it_listens(name: str, tmp_path: Path, port: int) -> None:
    (tmp_path / name).write_text(json.dumps({"address": f"0.0.0.0:{port}", "pid": 1}))
    assert check_health(str(tmp_path), within_s=1) == f"listening on 0.0.0.0:{port}"


def test_a_folder_of_a_process_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "edge.json").write_text(json.dumps({"address": f"127.0.0.1:{closed_port()}", "pid": 1}))
    with pytest.raises(RunError, match="takes no connection within 5 s"):
        check_health(str(tmp_path), within_s=1)


def test_a_folder_without_an_address(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"says where it listens \(coordinator.json or edge.json\): it is not running"):
        check_health(str(tmp_path), within_s=1)


def test_an_address(port: int) -> None:
    assert check_health(f"localhost:{port}", within_s=1) == f"listening on localhost:{port}"
    with pytest.raises(RunError, match="takes no connection"):
        check_health(f"127.0.0.1:{closed_port()}", within_s=1)
    with pytest.raises(ConfigError, match="health: expected HOST:PORT"):
        check_health("localhost:http", within_s=1)


def test_a_file_must_be_young(tmp_path: Path) -> None:
    file = tmp_path / "alive"
    with pytest.raises(RunError, match="has not joined yet, or is not running"):
        check_health(str(file), within_s=60)
    file.touch()
    os.utime(file, (1000, 1000))
    assert check_health(str(file), within_s=60, now_s=1030) == "heard a parent 30 s ago"
    assert check_health(str(file), within_s=60, now_s=990) == "heard a parent 0 s ago"
    with pytest.raises(RunError, match=r"no parent was heard for 90 s, expected at most 60 s"):
        check_health(str(file), within_s=60, now_s=1090)
