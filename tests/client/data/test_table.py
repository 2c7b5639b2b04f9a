"""What readers take and give: files by their names, classes in place of numbers, columns that are there once."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcore.client.data.table import MOST_NAMES, NAMING, ClassNumber, Row, SourceFile, check_columns, class_cell, named
from fedcore.core.errors import DataError

CLASSES = ("neg", "pos")


@pytest.mark.parametrize(
    ("name", "pack"),
    [("a.csv", bytes), ("a.csv.gz", gzip.compress), ("a.csv.BZ2", bz2.compress), ("a.csv.xz", lzma.compress)],
)
def test_a_file_is_unpacked_by_its_name_not_by_its_path(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "0123abcd"  # as a download cache calls it
    path.write_bytes(pack(b"\xef\xbb\xbfa\r\n\xc3\xa4"))
    file = SourceFile(path=path, name=name, source="set")
    with file.text(newline="") as text:
        assert text.read() == "a\r\nä"
    with file.bytes() as data:
        assert data.read() == b"\xef\xbb\xbfa\r\n\xc3\xa4"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (0, ClassNumber(0, "neg")),
        (" 1 ", ClassNumber(1, "pos")),
        (-1, None),
        ("-1", None),
        (2, 2),
        ("2", "2"),
        (-2, -2),
        ("pos", "pos"),
        (1.0, 1.0),
        (None, None),
    ],
)
def test_a_class_takes_the_place_of_its_number(cell: Any, expected: Any) -> None:
    assert class_cell(cell, CLASSES) == expected


def test_a_truth_value_is_no_class_number() -> None:
    assert class_cell(True, CLASSES) is True


def test_only_columns_with_class_names_are_changed() -> None:
    rows = [Row((1, 1), line=2), Row((), line=3, fault="2 cells"), Row((0, -1), line=4)]
    assert list(named(iter(rows), ("text", "label"), {"label": CLASSES})) == [
        Row((1, ClassNumber(1, "pos")), line=2),
        rows[1],
        Row((0, None), line=4),
    ]
    whole = iter(rows)
    assert named(whole, ("text", "label"), {"other": CLASSES, "label": ()}) is whole


@pytest.mark.parametrize(
    ("wanted", "found", "message"),
    [
        (
            "label",
            ["text", "labels"],
            "a.csv: no column 'label'; did you mean 'labels'? columns: text, labels" + NAMING,
        ),
        ("text", ["TEXT", "y"], "a.csv: no column 'text'; did you mean 'TEXT'? columns: TEXT, y" + NAMING),
        ("label", ["text", "y"], "a.csv: no column 'label'; columns: text, y" + NAMING),
        ("label", [], "a.csv: no column 'label'; columns: none" + NAMING),
        ("text", ["text", "text"], "a.csv: 2 columns are called 'text'; rename all but one"),
    ],
)
def test_a_column_must_be_there_once(wanted: str, found: list[str], message: str) -> None:
    with pytest.raises(DataError) as error:
        check_columns("a.csv", [wanted], found)
    assert str(error.value) == message


def test_a_column_that_nobody_asked_for_may_be_there_twice() -> None:
    check_columns("a.csv", ["text"], ["text", "id", "id"])


def test_many_columns_are_counted() -> None:
    with pytest.raises(DataError, match=r"columns: c0, c1, .*, c19 and 5 more \(data\.text"):
        check_columns("a.csv", ["label"], [f"c{number}" for number in range(MOST_NAMES + 5)])
