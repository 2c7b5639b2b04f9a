"""fedcore edge: what the command line makes of its words, and what an edge needs to be installed."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from fedcore.server.edge.options import EdgeOptions
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import read_identity
from tests.cli.conftest import Fedcore, Said
from tests.cli.test_startup import TORCH_SIDE, without

Started = list[EdgeOptions]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[Started]:
    """Edges that were started, none of which does anything."""
    seen: Started = []

    async def serve_edge(options: EdgeOptions) -> str:
        options.say("listening")
        seen.append(options)
        return "the run has finished"

    stand_in = ModuleType("fedcore.server.edge.process")
    stand_in.serve_edge = serve_edge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fedcore.server.edge.process", stand_in)
    yield seen


def edge(fedcore: Fedcore, *words: object) -> Said:
    return fedcore("edge", "--name", "north", "--upstream", "a:1", "--insecure", *words)


def test_little_need_be_said(place: Path, fedcore: Fedcore, started: Started) -> None:
    said = edge(fedcore)
    assert (said.code, said.out) == (0, "north: listening\nnorth: the run has finished\n")
    assert "WARNING: --insecure" in said.err
    (options,) = started
    assert (options.name, options.upstream, options.listen) == ("north", ("a:1",), "127.0.0.1:0")
    assert options.tls is None and options.metrics == "" and options.reconnect_s == 300.0
    assert options.state == place / "home" / ".fedcore" / "north"


def test_everything_can_be_said(place: Path, fedcore: Fedcore, started: Started) -> None:
    create_authority(place / "certs")
    issue(place / "certs", "shared", kind="edge")
    words = "--name north --upstream b:2,a:1,b:2 --listen 10.0.0.1:99 --certs certs --identity shared --state here"
    said = fedcore("edge", *words.split(), "--reconnect-s", "9", "--metrics", "127.0.0.1:0", "--advertise", "n:99")
    assert said.code == 0, said.err
    (options,) = started
    assert options.tls is not None and str(read_identity(options.tls.certificate)) == "edge:shared"
    assert (options.upstream, options.listen, options.advertise) == (("b:2", "a:1"), "10.0.0.1:99", "n:99")
    assert (options.state, options.reconnect_s, options.metrics) == (Path("here"), 9.0, "127.0.0.1:0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", None),  # the address it listens on, once the port is known
        ("--listen 10.0.0.1:99", None),
        ("--listen 0.0.0.0:99", ""),  # every address of this machine is none of another's
        ("--listen [::]:99", ""),
        ("--listen 0.0.0.0:99 --advertise edge.example:99", "edge.example:99"),
    ],
)
def test_newcomers_are_sent_to_an_address_they_can_dial(
    place: Path, fedcore: Fedcore, started: Started, words: str, told: str | None
) -> None:
    edge(fedcore, *words.split())
    assert started[0].advertise == told


def test_an_edge_may_refuse_newcomers(place: Path, fedcore: Fedcore, started: Started) -> None:
    edge(fedcore, "--advertise", "")
    assert started[0].advertise == ""


def test_a_certificate_of_another_kind_is_refused(place: Path, fedcore: Fedcore) -> None:
    create_authority(place / "certs")
    issue(place / "certs", "north", kind="device")
    said = fedcore("edge", "--name", "north", "--upstream", "a:1", "--certs", "certs")
    assert said.code == 1
    assert "north.pem is for device:north, expected kind edge; issue one with `fedcore certs`" in said.err


def test_an_edge_needs_no_client_library(place: Path) -> None:
    words = ("--name", "north", "--upstream", "127.0.0.1:1", "--insecure", "--state", "state", "--reconnect-s", "0")
    done = without(TORCH_SIDE, "edge", *words, place=place)
    assert done.returncode == 1
    assert "gave up after 0 s" in done.stderr and "Traceback" not in done.stderr
