"""fedcore token: lines that can be redeemed, what the folder keeps of them, and what is refused."""

import time
from pathlib import Path

import pytest

from fedcore.storage.pki.authority import create_authority
from fedcore.storage.pki.authority_record import record_transaction
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.token_text import read_token
from tests.cli.conftest import Fedcore
from tests.cli.test_bad_input import assert_told


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    create_authority(tmp_path / "certs")
    return tmp_path / "certs"


@pytest.mark.parametrize("kind", ["device", "class", "evaluator", "edge"])
def test_a_token_is_one_line_for_one_identity(kind: str, certs: Path, fedcore: Fedcore) -> None:
    said = fedcore("token", certs, f"--{kind}", "north-1")
    assert (said.code, said.err) == (0, f"for {kind}:north-1: 1 token(s), each good once within 24 h\n")
    assert said.out.count("\n") == 1
    assert read_token(said.out).identity == Identity(kind=kind, name="north-1")  # type: ignore[arg-type]


def test_tokens_differ_and_last_for_the_asked_hours(certs: Path, fedcore: Fedcore) -> None:
    before_s = time.time()
    said = fedcore("token", certs, "--class", "agx", "--count", 3, "--valid-h", 0.5)
    assert said.err == "for class:agx: 3 token(s), each good once within 0.5 h\n"
    tokens = [read_token(line) for line in said.out.splitlines()]
    assert len({token.id for token in tokens}) == len({token.secret for token in tokens}) == 3
    with record_transaction(certs) as record:
        entries = {token.id: record.token(token.id) for token in tokens}
    assert all(before_s + 1799 <= entry.expires_s <= time.time() + 1801 for entry in entries.values())


def test_hosts_of_an_edge_are_kept_in_the_record(certs: Path, fedcore: Fedcore) -> None:
    said = fedcore("token", certs, "--edge", "north", "--host", "north.lan", "--host", "10.0.0.7")
    with record_transaction(certs) as record:
        assert record.token(read_token(said.out).id).hosts == ("north.lan", "10.0.0.7")


ONE = "error: say whom the token is for: one of --device, --class, --evaluator, --edge\n"
MISTAKES = {
    "": ONE,
    "--device cam-1 --edge north": ONE,
    "--device cam-1 --host north.lan": "error: --host is for an edge: clients dial no other machine\n",
    "--device cam-1 --valid-h 0": "error: --valid-h must be above 0 and at most 8760 hours, got 0\n",
    "--device cam-1 --valid-h 8761": "error: --valid-h must be above 0 and at most 8760 hours, got 8761\n",
    "--device cam-1 --valid-h nan": "error: --valid-h must be above 0 and at most 8760 hours, got nan\n",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake_makes_no_token(words: str, certs: Path, fedcore: Fedcore) -> None:
    assert_told(fedcore("token", certs, *words.split()), (MISTAKES[words],))
    with record_transaction(certs) as record:
        assert record.open_tokens(0.0) == ()
