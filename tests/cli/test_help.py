"""Help worth reading: every command says what it does and lists what matters, in 80 columns."""

import re

import pytest

from tests.cli.conftest import Fedcore

LISTED = {
    "fetch": ("pinned version and sha256", "FEDCORE_CACHE", "fetch:NAME", "--json"),
    "fleet": ("fleet.class tables", "--set", "run.rounds=5", "--run-dir", "--resume", "--reference", "--plain"),
    "serve": ("no torch needed", "coordinator.listen", "0.0.0.0:PORT", "--certs", "--insecure", "--resume", "Ctrl-C"),
    "join": ("HOST:PORT", "--name", "--data", "--class", "--identity", "--model", "--shard", "--slowdown", "--state"),
    "edge": (
        "no torch needed",
        "--upstream",
        "--listen",
        "--advertise",
        "--identity",
        "--state",
        "--metrics",
        "--reconnect-s",
        "edge.json",
    ),
    "show": ("DIR", "--replay", "--json"),
    "flower": ("serve", "join", "Flower app"),
    "export": ("--class", "--sparsity", "--out", "plain transformers"),
    "certs": ("--host", "--device", "--class", "--evaluator", "--edge", "--force", "0600", "ca.key stays here"),
    "token": ("--device", "--class", "--edge", "--evaluator", "--valid-h", "--count", "password"),
    "enrol": ("HOST:PORT", "--token", "--token-file", "FEDCORE_TOKEN", "--certs", "--name", "--force"),
    "revoke": ("CERTS", "--serial", "crl.pem", "within a lease"),
    "doctor": ("RUN.toml", "--set", "--listen", "--json", "memory_mb", "Exit code 1"),
}


def unwrapped(text: str) -> str:
    """Help text without boxes and line breaks."""
    return re.sub(r"\s+", " ", re.sub("[│╭╮╰╯─]", " ", text))


def test_the_overview_lists_every_command_and_how_to_begin(fedcore: Fedcore) -> None:
    said = fedcore("--help")
    assert said.code == 0
    text = unwrapped(said.out)
    for words in (*LISTED, "fedcore fleet examples/quickstart.toml", "0 done, 1 an error, 2 wrong usage"):
        assert words in text


def test_no_command_at_all_is_answered_with_the_overview(fedcore: Fedcore) -> None:
    said = fedcore()
    assert said.code == 2
    assert "Commands" in said.out + said.err


@pytest.mark.parametrize("command", LISTED)
def test_every_command_explains_itself(fedcore: Fedcore, command: str) -> None:
    said = fedcore(command, "--help")
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 80
    text = unwrapped(said.out)
    assert f"Usage: fedcore {command}" in text
    for words in LISTED[command]:
        assert words in text


def test_the_version_is_told(fedcore: Fedcore) -> None:
    said = fedcore("--version")
    assert said.code == 0
    assert re.fullmatch(r"fedcore \d+\.\d+\.\d+\S*\n", said.out)
