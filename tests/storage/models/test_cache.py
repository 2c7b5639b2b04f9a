from pathlib import Path

import pytest

from fedcore.storage.models.cache import build_entry, cache_folder


def test_the_environment_chooses_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("FEDCORE_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.setenv("FEDCORE_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "fedcore"


def test_an_entry_is_built_once_and_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "entry"
    calls: list[Path] = []

    def build(folder: Path) -> None:
        calls.append(folder)
        assert not target.exists() and folder.parent == target.parent
        (folder / "x").write_text("1")

    assert build_entry(target, build) == build_entry(target, build) == target
    assert len(calls) == 1
    assert [path.name for path in target.parent.iterdir()] == ["entry"]


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("1")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        build_entry(tmp_path / "entry", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_faster_of_two_builders_wins(tmp_path: Path) -> None:
    target = tmp_path / "entry"

    def overtaken(folder: Path) -> None:
        (folder / "x").write_text("slow")
        target.mkdir()
        (target / "x").write_text("fast")

    assert (build_entry(target, overtaken) / "x").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
