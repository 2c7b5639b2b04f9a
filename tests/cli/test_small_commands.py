"""fetch, doctor, show, export, health: what they print for people and for programs."""

import json
import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Fedcore


def test_fetch_lists_what_there_is(fedcore: Fedcore) -> None:
    said = fedcore("fetch")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()][:3] == ["minilm", "smollm2", "movies"]
    told = json.loads(fedcore("fetch", "--json").out)
    assert "Apache-2.0" in told["minilm"]


def test_fetch_tells_where_a_thing_lies_that_is_there(
    fedcore: Fedcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedcore.storage.models.fetchables import FETCHABLES

    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path))
    entry = tmp_path / f"movies-{FETCHABLES['movies'].package.sha256[:12]}-r{FETCHABLES['movies'].revision}"
    entry.mkdir()
    assert fedcore("fetch", "movies").out == f"movies: {entry / 'movies.csv'}\n"
    assert json.loads(fedcore("fetch", "movies", "--json").out) == {"movies": str(entry / "movies.csv")}


def test_fetch_converts_a_file_of_ones_own(fedcore: Fedcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedcore.cli.commands import fetch

    def convert(file: Path, folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(fetch, "_convert", convert)
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "q4.gguf"
    assert f"{file}: cannot be read: No such file" in fedcore("fetch", file).err
    file.write_bytes(b"GGUF")
    folder = Path(json.loads(fedcore("fetch", file, "--json").out)[str(file)])
    assert folder.parent == tmp_path / "cache" and (folder / "config.json").is_file()


def test_a_healthy_machine(fedcore: Fedcore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path))
    said = fedcore("doctor")
    assert said.code == 0
    assert all(line.startswith("ok   ") for line in said.out.splitlines())
    told = {each["check"]: each for each in json.loads(fedcore("doctor", "--json").out)}
    assert {"python", "coordinator packages", "device packages", "cores", "memory", "cache", "port"} <= set(told)
    assert all(each["ok"] for each in told.values())


def test_a_port_in_use_is_found_by_the_doctor(fedcore: Fedcore) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = fedcore("doctor", "--listen", address)
        told = json.loads(fedcore("doctor", "--listen", address, "--json").out)
    assert said.code == 1
    assert f"MEND port: {address}: " in said.out and "--set coordinator.listen=HOST:PORT" in said.out
    assert [each["check"] for each in told if not each["ok"]] == ["port"]


def test_what_a_dead_coordinator_left_may_be_damaged(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.1")
    for left in (b"", b"\xff", b"[]", b"{}", b'{"address": "a:1", "pid": "x"}'):
        (place / "runs" / "tiny" / "coordinator.json").write_bytes(left)
        assert "not running; go on with" in fedcore("show", "runs/tiny").out


def test_there_is_nothing_to_export_before_a_round_has_closed(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--run-dir", "run", "--set", "coordinator.join_deadline_s=0.1")
    said = fedcore("export", "run", "--class", "agx", "--out", "x")
    assert said.code == 1
    assert said.err == "error: run has no closed round yet; there is nothing to export\n"


def test_health_of_what_listens(fedcore: Fedcore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        said = fedcore("health", address)
    assert (said.code, said.out) == (0, f"listening on {address}\n")
