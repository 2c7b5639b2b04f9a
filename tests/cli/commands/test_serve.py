"""fedcore serve: ports, run folders, going on, and what a coordinator says."""

import asyncio
import socket
from pathlib import Path

import pytest

from fedcore.core.errors import RunError
from fedcore.server.run.run import Run
from tests.cli.conftest import Fedcore


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


def test_continue_finds_the_run_by_itself(place: Path, fedcore: Fedcore) -> None:
    words = ("serve", "cfg.toml", "--insecure", "--continue", "--set", "coordinator.join_deadline_s=0.1")
    first, second = fedcore(*words), fedcore(*words)
    assert first.out.startswith("run folder: runs/tiny\n")
    assert second.out.startswith("going on with runs/tiny, by its own configuration\nrun folder: runs/tiny\n")
    assert not (place / "runs" / "tiny-2").exists()
    assert "go on with" not in second.err, "the supervisor starts it again"
    both = fedcore(*words, "--resume", "runs/tiny")
    assert both.code == 1 and "leave out --resume, or --continue" in both.err


def test_a_run_that_cannot_be_resumed_is_named(place: Path, fedcore: Fedcore) -> None:
    said = fedcore("serve", "--resume", "runs/none", "--insecure")
    assert said.code == 1 and "runs/none" in said.err and "Traceback" not in said.err


def test_advice_repeats_the_options_of_this_machine(
    place: Path, fedcore: Fedcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fedcore("certs", "certs")

    async def serve(run: Run, options: object) -> None:
        await asyncio.sleep(0)
        with run:
            run.open_log().event("started")
            raise RunError("round 1 has too few devices")

    monkeypatch.setattr("fedcore.server.serve.serve", serve)
    words = ("--certs", "certs", "--enrol", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--run-dir", "run")
    said = fedcore("serve", "cfg.toml", *words)
    assert said.code == 1
    assert said.err == (
        "error: round 1 has too few devices; go on with: fedcore serve --resume run --certs certs "
        "--enrol 127.0.0.1:0 --listen 127.0.0.1:0\n"
    )


def test_a_coordinator_that_fails_before_it_begins_leaves_no_folder(
    place: Path, fedcore: Fedcore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(run: Run, options: object) -> None:
        await asyncio.sleep(0)
        with run:
            run.open_log()
            raise RunError("cannot listen on localhost:1")

    monkeypatch.setattr("fedcore.server.serve.serve", serve)
    for words in ((), ("--run-dir", "new")):
        said = fedcore("serve", "cfg.toml", "--insecure", *words)
        assert said.code == 1 and said.err.endswith("\nerror: cannot listen on localhost:1\n")
    assert not (place / "runs").exists() and not (place / "new").exists()
