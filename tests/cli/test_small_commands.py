"""fetch, doctor, certs: what they print for people and for programs."""

import json
import socket
import stat
from pathlib import Path

import pytest
from cryptography import x509

from fedcore.storage.folder_lock import FolderLock
from fedcore.storage.pki.authority_record import RECORD
from fedcore.storage.pki.certificates import load_material, read_identity
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


def test_a_port_in_use_ends_a_coordinator(place: Path, fedcore: Fedcore) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for words in (["--set", f"coordinator.listen={address}"], ["--listen", address]):
            said = fedcore("serve", "cfg.toml", "--insecure", *words)
            assert said.code == 1
            assert f"cannot listen on {address}: Address already in use; choose another with --listen" in said.err
        assert not (place / "runs").exists(), "before anything is written"


def test_a_run_is_not_tied_to_its_port(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = fedcore("serve", "--resume", "runs/tiny", "--insecure", "--listen", address)
        assert said.code == 1 and "choose another with --listen HOST:PORT" in said.err
    said = fedcore("serve", "--resume", "runs/tiny", "--insecure", "--listen", address)
    assert f"listening on {address} WITHOUT TLS" in said.out
    assert said.err.rstrip().endswith(f"fedcore serve --resume runs/tiny --insecure --listen {address}")


def test_a_run_goes_on_by_the_configuration_it_began_with(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.1")
    config = place / "runs" / "tiny" / "config.toml"
    text = config.read_text()
    config.write_text(text.replace("join_deadline_s = 0.1", "join_deadline_s = 0.2"))
    assert "go on with" in fedcore("serve", "--resume", "runs/tiny", "--insecure").err, "how long it waits may change"
    config.write_text(text.replace('train = "rows.csv"', 'train = "moved/rows.csv"'))
    assert "go on with" in fedcore("serve", "--resume", "runs/tiny", "--insecure").err, "and so may where data lie"
    config.write_text(text.replace("ranks = [2, 4]", "ranks = [1, 4]").replace("rounds = 3", "rounds = 9"))
    said = fedcore("serve", "--resume", "runs/tiny", "--insecure")
    assert said.code == 1 and "than the run began with: run.rounds, strategy.ranks; put them back" in said.err
    config.write_bytes(b"\xff")
    for words in (["serve", "--resume", "runs/tiny", "--insecure"], ["show", "runs/tiny"]):
        said = fedcore(*words)
        assert said.code == 1 and "config.toml" in said.err and "Traceback" not in said.err


def test_what_a_dead_coordinator_left_may_be_damaged(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.1")
    for left in (b"", b"\xff", b"[]", b"{}", b'{"address": "a:1", "pid": "x"}'):
        (place / "runs" / "tiny" / "coordinator.json").write_bytes(left)
        assert "not running; go on with" in fedcore("show", "runs/tiny").out


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


def test_an_insecure_coordinator_is_loud(place: Path, fedcore: Fedcore) -> None:
    said = fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.2")
    assert "WARNING: --insecure: no encryption, and anybody can join." in said.err
    assert "WITHOUT TLS: anybody who reaches it can join" in said.out
    assert said.err.rstrip().endswith("fedcore serve --resume runs/tiny --insecure")


def test_a_second_run_of_a_name_gets_its_own_folder(place: Path, fedcore: Fedcore) -> None:
    for name in ("tiny", "tiny-2"):
        said = fedcore("serve", "cfg.toml", "--insecure", "--set", "coordinator.join_deadline_s=0.1")
        assert said.out.startswith(f"run folder: runs/{name}\n")


def test_a_paused_run_goes_on_until_it_is_paused_again(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--run-dir", "run", "--set", "coordinator.join_deadline_s=0.1")
    said = fedcore("serve", "--resume", "run", "--insecure")
    assert (said.code, "round 1 needs 3 device(s)" in said.err) == (1, True)


def test_there_is_nothing_to_export_before_a_round_has_closed(place: Path, fedcore: Fedcore) -> None:
    fedcore("serve", "cfg.toml", "--insecure", "--run-dir", "run", "--set", "coordinator.join_deadline_s=0.1")
    said = fedcore("export", "run", "--class", "agx", "--out", "x")
    assert said.code == 1
    assert said.err == "error: run has no closed round yet; there is nothing to export\n"


def test_an_edge_has_a_certificate_of_its_own_kind_and_hosts(fedcore: Fedcore, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    said = fedcore("certs", folder, "--device", "cam-1", "--edge", "north", "--host", "edge.example")
    assert [line.rpartition("/")[2] for line in said.out.splitlines()] == [
        "ca.pem",
        "coordinator.pem",
        "cam-1.pem",
        "north.pem",
    ]
    hosts = {
        name: x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value.get_values_for_type(x509.DNSName)
        for name in ("coordinator", "north")
    }
    assert hosts == {"coordinator": ["localhost"], "north": ["localhost", "edge.example"]}
    assert str(read_identity(load_material(folder, "north", kinds=("edge",)).certificate)) == "edge:north"
    before = (folder / "coordinator.pem").read_bytes()
    assert fedcore("certs", folder, "--edge", "south", "--host", "south.example").code == 0
    assert (folder / "coordinator.pem").read_bytes() == before, "hosts of an edge are none of the coordinator's"


def test_a_join_gives_up_where_nobody_answers(place: Path, fedcore: Fedcore) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and nobody listens
        words = ("--name", "cam", "--data", "rows.csv", "--insecure", "--state", "state", "--reconnect-s", "0")
        said = fedcore("join", f"127.0.0.1:{closed.getsockname()[1]}", *words)
    assert said.code == 1
    assert "gave up after 0 s: is the coordinator running and reachable?" in said.err


def test_certificates_are_issued_once_and_named(fedcore: Fedcore, tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    said = fedcore("certs", folder, "--host", "coord.example", "--device", "cam-1", "--class", "jetson")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        f"made the authority {folder / 'ca.pem'}",
        f"issued {folder / 'coordinator.pem'}",
        f"issued {folder / 'cam-1.pem'}",
        f"issued {folder / 'jetson.pem'}",
    ]
    names = {"coordinator": "coordinator:coordinator", "cam-1": "device:cam-1", "jetson": "class:jetson"}
    for name, identity in names.items():
        assert str(read_identity(load_material(folder, name).certificate)) == identity
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    again = fedcore("certs", folder)
    assert again.code == 1 and "has an authority already; say what to issue" in again.err
    twice = fedcore("certs", folder, "--device", "cam-1")
    assert twice.code == 1 and "replace it with --force" in twice.err
    assert fedcore("certs", folder, "--device", "cam-1", "--force").code == 0


def test_certs_that_run_again_make_only_what_is_missing(fedcore: Fedcore, tmp_path: Path) -> None:
    words = ("certs", tmp_path / "tls", "--host", "coord.example", "--class", "nx", "--missing")
    assert [line.split()[0] for line in fedcore(*words).out.splitlines()] == ["made", "issued", "issued"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    del before[RECORD]  # grows with every certificate
    again = fedcore(*words)
    assert (again.code, again.out) == (0, "")
    assert fedcore(*words, "--class", "tx2").out.endswith("tx2.pem\n")
    after = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {RECORD, "tx2.pem", "tx2.key"}
    (tmp_path / "tls" / "tx2.pem").unlink()  # killed between its two files: the key alone is worth nothing
    assert fedcore(*words, "--class", "tx2").code == 0
    assert load_material(tmp_path / "tls", "tx2")


def test_health_of_what_listens(fedcore: Fedcore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        said = fedcore("health", address)
    assert (said.code, said.out) == (0, f"listening on {address}\n")
