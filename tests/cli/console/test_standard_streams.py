"""Closed streams and poor encodings end no command and spoil no file."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fedcore.cli.console.standard_streams import writable_encoding

PREPARE = "from fedcore.cli.console.standard_streams import echo_json, prepare_streams\nprepare_streams()\n"


def told(script: str, streams: str = "", **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a script with what a shell makes of its streams."""
    return subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {streams}', sys.executable, script],
        capture_output=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path), **environment},
        check=False,
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252", "shift-jis"])
def test_no_character_is_an_error(encoding: str) -> None:
    script = PREPARE + "import sys\nfor s in (sys.stdout, sys.stderr): print('größe 漢 \\U0001f600 \\udce9', file=s)"
    done = told(script, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert done.stdout == done.stderr
    expected = writable_encoding(encoding)
    assert done.stdout.decode(expected).startswith("größe" if encoding != "shift-jis" else "gr\\xf6")
    assert done.stdout.endswith(b"\\udce9\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_stays_json(encoding: str) -> None:
    script = PREPARE + 'echo_json(\'{"name": "größe 漢 \\U0001f600"}\')'
    done = told(script, PYTHONIOENCODING=encoding)
    assert json.loads(done.stdout.decode(writable_encoding(encoding))) == {"name": "größe 漢 \U0001f600"}


@pytest.mark.parametrize("closed", [("0", "<&-"), ("1", ">&-"), ("2", "2>&-")])
def test_a_closed_stream_takes_no_files_number(closed: tuple[str, str], tmp_path: Path) -> None:
    number, words = closed
    file = tmp_path / "ledger"
    script = PREPARE + (
        "import os, sys\n"
        f"file = open({str(file)!r}, 'w')\n"
        f"os.write({number}, b'of a library')\n"
        "file.write('mine')\nfile.close()\nprint('out'); print('err', file=sys.stderr); sys.stdin.read()\n"
    )
    done = told(script, words + " </dev/null" if number != "0" else words)
    assert (done.returncode, file.read_text()) == (0, "mine"), done.stderr


def test_with_all_three_closed_commands_work_and_children_have_streams(tmp_path: Path) -> None:
    script = PREPARE + (
        "import os, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-c', 'import sys; print(1); sys.stderr.write(sys.stdin.read())'])\n"
        f"open({str(tmp_path / 'code')!r}, 'w').write(str(done.returncode))\n"
    )
    told(script, "<&- >&- 2>&-")
    assert (tmp_path / "code").read_text() == "0"


def test_ascii_alone_gives_way() -> None:
    taken = {"ASCII": "utf-8", "ANSI_X3.4-1968": "utf-8", "latin-1": "latin-1", "UTF-8": "UTF-8"}
    assert {name: writable_encoding(name) for name in taken} == taken
