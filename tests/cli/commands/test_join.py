"""fedcore join: what the command line makes of its options, and when it gives up."""

import socket
from pathlib import Path

import pytest

from fedcore.storage.folder_lock import FolderLock
from tests.cli.conftest import Fedcore


def test_two_devices_never_share_a_state_folder(place: Path, fedcore: Fedcore) -> None:
    (place / "state").mkdir()
    lock = FolderLock(place / "state", role="device", remedy="--state")
    said = fedcore("join", "127.0.0.1:9", "--name", "a", "--data", "rows.csv", "--insecure", "--state", "state")
    lock.release()
    assert said.code == 1 and "state is in use by a running device" in said.err and "--state" in said.err


@pytest.mark.parametrize("value", ["nan", "inf", "-5"])
def test_nobody_tries_for_ever_or_not_at_all(value: str, place: Path, fedcore: Fedcore) -> None:
    said = fedcore(*("join", "127.0.0.1:9", "--name", "a", "--data", "rows.csv", "--insecure", "--reconnect-s", value))
    assert said.code == 2 and "expected seconds, 0 or more" in said.err


def test_a_join_gives_up_where_nobody_answers(place: Path, fedcore: Fedcore) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        words = ("--name", "cam", "--data", "rows.csv", "--insecure", "--state", "state", "--reconnect-s", "0")
        said = fedcore("join", f"127.0.0.1:{closed.getsockname()[1]}", *words)
    assert said.code == 1
    assert "gave up after 0 s: is the coordinator running and reachable?" in said.err
