"""Whole-or-nothing writes."""

import os
import stat
from pathlib import Path

import pytest

from fedcore.storage.atomic import write_atomic


@pytest.mark.parametrize("durable", [False, True])
def test_replaces_text_and_bytes(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "summary.json"
    write_atomic(path, "grün", durable=durable)
    assert path.read_text(encoding="utf-8") == "grün"
    write_atomic(path, b"\x00\x01", durable=durable)
    assert path.read_bytes() == b"\x00\x01"
    assert [each.name for each in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_mode_is_exact_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    write_atomic(tmp_path / "key", b"secret", mode=mode)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == mode


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_without_a_mode_the_umask_decides_as_for_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "summary.json", b"{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "summary.json").stat().st_mode) == 0o666 & ~umask


def test_failure_keeps_the_old_file_and_leaves_no_other(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x")
    with pytest.raises(OSError):
        write_atomic(tmp_path / "folder", b"new")  # a folder with something in it cannot be replaced
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_folder_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "file", b"")


def test_chunks_are_joined_and_a_failing_source_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "global"
    write_atomic(path, iter((b"ab", memoryview(b"cd"))))
    assert path.read_bytes() == b"abcd"

    def broken():
        yield b"half"
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        write_atomic(path, broken())
    assert path.read_bytes() == b"abcd" and [each.name for each in tmp_path.iterdir()] == ["global"]
