"""Who a process is: a uuid made once, and epochs that rise whatever happens to the process."""

import json
from pathlib import Path

import pytest

from fedcore.storage.process.identity import next_session


def test_the_uuid_stays_and_the_epoch_rises(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    sessions = [next_session(path) for _ in range(4)]
    assert [epoch for _, epoch in sessions] == [1, 2, 3, 4]
    assert len({name for name, _ in sessions}) == 1 and len(sessions[0][0]) == 32


def test_two_folders_are_two_processes(tmp_path: Path) -> None:
    assert next_session(tmp_path / "a.json")[0] != next_session(tmp_path / "b.json")[0]


def test_no_other_user_may_read_it(tmp_path: Path) -> None:
    next_session(tmp_path / "identity.json")
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["identity.json"], "nothing half written stays"


@pytest.mark.parametrize(
    "spoilt", [b"", b"{", b"[]", b"null", b'{"uuid": "x"}', b'{"uuid": "x", "epoch": "y"}', b"\xff"]
)
def test_a_spoilt_file_makes_a_new_one(spoilt: bytes, tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(spoilt)
    name, epoch = next_session(path)
    assert epoch == 1 and len(name) == 32 and json.loads(path.read_bytes()) == {"uuid": name, "epoch": 1}
    assert next_session(path) == (name, 2)
