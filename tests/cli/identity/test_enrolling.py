"""token, enrol, revoke, and what --token and --enrol of other commands come to: the whole path, and every mistake."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fedcore.server.members.enrolment import serving_enrolment
from fedcore.storage.pki.authority import CRL, create_authority, issue, load_signer
from fedcore.storage.pki.certificates import load_material, read_identity
from fedcore.storage.pki.revocation import read_list
from fedcore.storage.pki.token_text import read_token
from tests.cli.conftest import Fedcore
from tests.cli.test_bad_input import assert_told


@contextmanager
def enrolling(certs: Path) -> Iterator[str]:
    """Enrol on a thread with an event loop of its own, as another process would."""
    ready, address = threading.Event(), ""
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        nonlocal address
        tls = load_material(certs, "coordinator")
        async with serving_enrolment(certs, "127.0.0.1:0", tls, lambda _: None) as address:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(20)
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        loop.close()


@pytest.fixture
def certs(place: Path) -> Path:
    create_authority(place / "certs")
    issue(place / "certs", "coordinator", kind="coordinator")
    return place / "certs"


def test_a_machine_is_enrolled_listed_revoked_and_enrolled_again(place: Path, certs: Path, fedcore: Fedcore) -> None:
    said = fedcore("token", "certs", "--device", "cam-1")
    assert said.code == 0 and said.err == "for device:cam-1: 1 token(s), each good once within 24 h\n"
    (place / "cam-1.token").write_text(said.out)
    assert "device:cam-1  unused, until 20" in fedcore("certs", "certs", "--list").out

    with enrolling(certs) as address:
        told = fedcore("enrol", address, "--token-file", "cam-1.token", "--certs", "mine")
        assert (told.code, told.out) == (0, "enrolled as device:cam-1: mine/cam-1.pem\n")
        first = read_identity(load_material(place / "mine", "cam-1").certificate)
        again = fedcore("enrol", address, "--token-file", "cam-1.token", "--certs", "mine")
        assert again.code == 1 and "cam-1.key exists already" in again.err

        listed = fedcore("certs", "certs", "--list").out
        assert f"{first.serial:040x}  device:cam-1  cam-1  until 20" in listed and "unused" not in listed
        gone = fedcore("revoke", "certs", "cam-1")
        assert gone.out.splitlines()[0] == f"revoked device:cam-1 (cam-1), serial {first.serial:x}"
        assert gone.out.splitlines()[-1] == f"wrote certs/{CRL}"
        assert f"{first.serial:040x}  device:cam-1  cam-1  revoked 20" in fedcore("certs", "certs", "--list").out
        assert set(read_list((certs / CRL).read_bytes(), load_signer(certs).certificate).revoked) == {first.serial}

        (place / "new.token").write_text(fedcore("token", "certs", "--device", "cam-1").out)
        words = ("--token-file", "new.token", "--certs", "mine", "--force")
        assert fedcore("enrol", address, *words).code == 0
    assert read_identity(load_material(place / "mine", "cam-1").certificate).serial != first.serial


def test_tokens_of_a_class_come_by_the_dozen(certs: Path, fedcore: Fedcore) -> None:
    said = fedcore("token", "certs", "--class", "agx", "--count", "12", "--valid-h", "0.5")
    tokens = [read_token(line) for line in said.out.splitlines()]
    assert len({token.id for token in tokens}) == 12 and {str(token.identity) for token in tokens} == {"class:agx"}
    withdrawn = fedcore("token", "certs", "--edge", "north", "--host", "edge.example")
    assert withdrawn.code == 0


def test_a_serial_revokes_one_and_a_name_withdraws_tokens(certs: Path, fedcore: Fedcore) -> None:
    issue(certs, "cam-1", kind="device")
    serial = read_identity((certs / "cam-1.pem").read_bytes()).serial
    fedcore("token", "certs", "--device", "cam-1")
    assert "withdrew" not in fedcore("revoke", "certs", "--serial", f"{serial:040x}").out
    assert "withdrew 1 unused join token(s)" in fedcore("revoke", "certs", "device:cam-1").out


def test_an_edge_enrols_before_it_looks_for_its_certificate(place: Path, certs: Path, fedcore: Fedcore) -> None:
    """And at its next start, with the token still among its words, it does not ask again."""
    token = fedcore("token", "certs", "--edge", "north").out.strip()
    words = ("--name", "north", "--upstream", "127.0.0.1:1", "--certs", "mine", "--state", "state")
    words += ("--token", token, "--reconnect-s", "0.1")
    with enrolling(certs) as address:
        said = fedcore("edge", *words, "--enrol", address)
    assert "enrolled as edge:north: mine/north.pem" in said.out and "listening on" in said.out
    again = fedcore("edge", *words)  # no server enrols any more, and none needs to
    assert "enrolled" not in again.out and "listening on" in again.out


def test_a_device_takes_its_token_from_the_environment(
    place: Path, certs: Path, fedcore: Fedcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDCORE_TOKEN", fedcore("token", "certs", "--class", "agx").out.strip())
    words = ("--name", "cam-1", "--class", "agx", "--data", "rows.csv", "--certs", "mine", "--reconnect-s", "3")
    with enrolling(certs) as address:
        monkeypatch.setenv("FEDCORE_ENROL", address)
        said = fedcore("join", "127.0.0.1:1", *words, "--shard", "7/6")
    assert (said.out == "" and "--shard '7/6'" in said.err) or "enrolled as class:agx: mine/cam-1.pem" in said.out
    assert str(read_identity(load_material(place / "mine", "cam-1").certificate)) == "class:agx"


WRONG = {  # command line -> parts of the error; TOKEN stands for a good one of device:cam-1
    "token certs": ("say whom the token is for: one of --device, --class, --evaluator, --edge",),
    "token certs --device a --class b": ("say whom the token is for",),
    "token certs --device Cam": ("certificate name 'Cam': expected 1-63 characters",),
    "token certs --device a --host h": ("--host is for an edge",),
    "token certs --edge a --host h:1": ("host 'h:1': expected a DNS name or an IP address",),
    "token certs --device a --valid-h 0": ("--valid-h must be above 0 and at most 8760 hours, got 0",),
    "token nowhere --device a": ("nowhere/ca.key is missing",),
    "revoke certs": ("say whom to revoke",),
    "revoke certs cam-9": ("certs has issued no certificate for 'cam-9'",),
    "revoke certs a --serial 1": ("say whom to revoke",),
    "revoke certs --serial xyz": ("--serial 'xyz': expected hex digits",),
    "revoke nowhere cam-1": ("nowhere/ca.key is missing",),
    "certs nowhere --list": ("nowhere/ca.key is missing",),
    "enrol a:1 --certs mine": ("give --token TOKEN, --token-file FILE, or the token in FEDCORE_TOKEN",),
    "enrol a:1 --certs mine --token hello": ("expected a join token, one line that begins with fedcore1.",),
    "enrol a:1 --certs mine --token-file none": ("none cannot be read: No such file",),
    "enrol a:1 --certs mine --token TOKEN --token-file rows.csv": ("contradict each other",),
    "enrol here --certs mine --token TOKEN": ("enrolment address: expected HOST:PORT", "got 'here'"),
    "enrol a:1 --certs mine --token TOKEN --name Cam": ("certificate name 'Cam'",),
    "enrol 127.0.0.1:1 --certs mine --token TOKEN --wait-s 0": ("gave up after 0 s", "fedcore serve --enrol"),
    "edge --name e --upstream a:1 --certs mine --token TOKEN": ("join token is for device:cam-1, expected edge:e",),
    "edge --name e --upstream a:1 --token TOKEN": ("a join token needs --certs FOLDER",),
    "join a:1 --name cam-2 --data rows.csv --certs mine --token TOKEN": (
        "the join token is for device:cam-1, expected device:cam-2 or class:default",
    ),
    "join a:1 --name cam-1 --data rows.csv --certs mine --token TOKEN": ("a join token needs --enrol HOST:PORT",),
    "serve cfg.toml --enrol 127.0.0.1:0": ("--enrol needs --certs FOLDER",),
    "serve cfg.toml --enrol here --certs certs": ("--enrol: expected HOST:PORT, for example 0.0.0.0:8444",),
    "serve cfg.toml --enrol 127.0.0.1:0 --certs nowhere": ("nowhere/ca.key is missing",),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_named_before_anything_happens(place: Path, certs: Path, fedcore: Fedcore, words: str) -> None:
    token = fedcore("token", "certs", "--device", "cam-1").out.strip() if "TOKEN" in words else ""
    said = fedcore(*words.replace("TOKEN", token).split())
    assert_told(said, WRONG[words])
    assert not token or token not in said.err
    assert not (place / "runs").exists() and not (place / "mine" / "cam-1.pem").exists()
