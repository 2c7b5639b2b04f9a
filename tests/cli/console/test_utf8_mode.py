"""Under a locale of another encoding the command line starts again in UTF-8 mode, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

POOR = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CONFIG = """
[run]
name = "l"
[model]
path = "/nowhere/größe"
[data]
train = "größe.csv"
labels = ["größe", "süß"]
[[fleet.class]]
name = "a"
"""


def fedcore(place: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "fedcore.cli.main", *words],
        cwd=place,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("environment", [POOR, {**POOR, "PYTHONIOENCODING": "ascii"}, {}])
def test_names_of_a_configuration_are_utf_8(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "größe.toml").write_text(CONFIG, encoding="utf-8")
    done = fedcore(tmp_path, "fleet", "größe.toml", "--plain", **environment)
    assert done.returncode == 1
    assert done.stderr.decode() == "error: /nowhere/größe: no such file or folder; check [model]\n"


def test_a_file_that_a_configuration_names_is_found(tmp_path: Path) -> None:
    (tmp_path / "größe.csv").write_text("text,label\n,süß\n", encoding="utf-8")
    words = ("join", "127.0.0.1:1", "--name", "d", "--insecure", "--data", "größe.csv", "--state", "s")
    done = fedcore(tmp_path, *words, "--reconnect-s", "0", **POOR)
    assert "größe.csv: line 2: column 'text' is empty" in done.stderr.decode()


def test_a_terminal_keeps_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG, encoding="utf-8")
    done = fedcore(tmp_path, "fleet", "c.toml", "--plain", **POOR, PYTHONIOENCODING="latin-1")
    assert done.stderr == "error: /nowhere/größe: no such file or folder; check [model]\n".encode("latin-1")


def test_another_program_is_not_started_again(tmp_path: Path) -> None:
    call = "utf8_mode.ensure_utf8_mode(); print(utf8_mode.sys.flags.utf8_mode)"
    script = f"from fedcore.cli.console import utf8_mode; {call}"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **POOR},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == b"0\n"
