"""The systemd units: they call options that exist, keep an identity, come back, and confine what they run."""

import configparser
import re
from pathlib import Path

import pytest
import typer

from fedcore.cli.main import app

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
CONFINED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "UMask": "0077",
}


def unit(path: Path) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(path.read_text().replace("\\\n", " "))
    return parsed


def test_there_is_a_unit_for_every_role() -> None:
    names = [path.name for path in UNITS]
    assert names == ["fedcore-coordinator.service", "fedcore-device@.service", "fedcore-edge.service"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_calls_what_there_is(path: Path) -> None:
    program, name, *words = unit(path)["Service"]["ExecStart"].split()
    assert program == "/opt/fedcore/bin/fedcore"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
    needed = {parameter.opts[0] for parameter in command.params if parameter.required and parameter.opts[0][0] == "-"}
    assert needed <= set(words)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_keeps_who_it_is_and_comes_back(path: Path) -> None:
    service = unit(path)["Service"]
    home = f"/var/lib/{service['StateDirectory']}"
    assert service["WorkingDirectory"] == home and service["StateDirectoryMode"] == "0700"
    if "coordinator" not in path.name:
        assert f"--state {home}" in re.sub(r"\s+", " ", service["ExecStart"])
    assert service["Restart"] == "on-failure" and service["RestartSec"], "exit code 0 is the end of a run"


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_a_unit_may_do_little(path: Path) -> None:
    service = unit(path)["Service"]
    assert {key: service.get(key) for key in CONFINED} == CONFINED
    assert service["User"] == "fedcore"
