"""Reading a configuration: what a file or a path may hold that no run could go on with."""

import os
from pathlib import Path

import pytest

from fedcore.cli.console.settings import read_config
from fedcore.core.errors import ConfigError


def test_a_configuration_nested_too_deep_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"deep\.toml: ") as caught:
        read_config(path, None)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", "größe = 1".encode("latin-1"), bytes(64), b"[run"])
def test_whatever_is_in_a_file_is_an_error_of_ours_or_a_configuration(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    if content:
        with pytest.raises(ConfigError, match=r"c\.toml"):
            read_config(path, None)
    else:
        assert read_config(path, None).run.rounds > 0


def test_a_path_that_no_configuration_can_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "rows.csv").touch()
    path = tmp_path / "c.toml"
    path.touch()
    with pytest.raises(ConfigError, match=r"--set: .*not UTF-8; rename"):
        read_config(path, [f"data.train={folder / 'rows.csv'}"])


def test_a_working_folder_that_no_configuration_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "rows.csv").touch()
    (folder / "c.toml").write_text('[data]\ntrain = "rows.csv"\n', encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=r"data\.train: .*not UTF-8; rename"):
        read_config(Path("c.toml"), None)
