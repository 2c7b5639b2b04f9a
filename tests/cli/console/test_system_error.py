import errno
from pathlib import Path

import pytest

from fedcore.cli.console.system_error import system_message, where_it_happened

TOLD = [
    (OSError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied"),
    (OSError(errno.EACCES, "Permission denied", b"runs"), "runs: Permission denied"),
    (OSError(errno.ENOSPC, "No space left on device"), "the output cannot be written: no space left on device"),
    (OSError(errno.EMFILE, "Too many open files", "x"), "too many open files; allow more with: ulimit -n 4096"),
    (OSError(errno.EMFILE, "Too many open files"), "too many open files; allow more with: ulimit -n 4096"),
    (
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/nowhere']"),
        "no folder for temporary files can be written; set TMPDIR to one that can",
    ),
    (OSError(errno.EIO, "Input/output error"), None),
]


@pytest.mark.parametrize(("cause", "message"), TOLD, ids=str)
def test_the_system_is_told_in_a_line(cause: OSError, message: str | None) -> None:
    assert system_message(cause) == message


def test_a_working_folder_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert where_it_happened() == ""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    try:
        Path.cwd()
    except OSError as cause:
        assert system_message(cause) == ("No such file or directory; the working folder is gone: change to another one")
    monkeypatch.chdir(tmp_path)
