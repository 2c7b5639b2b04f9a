"""One local file, read by its suffix."""

import gzip
from pathlib import Path

import pytest

from fedcore.client.data.table import Row, SourceFile
from fedcore.client.data.table_file import file_table, table_suffix
from fedcore.core.errors import DataError


def source_file(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(path=path, name=path.name, source=path.name)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.csv", ".csv"),
        ("A.TSV", ".tsv"),
        ("folder/a.b.jsonl.gz", ".jsonl"),
        ("a.json.XZ", ".json"),
        ("a.parquet", ".parquet"),
        ("a.parquet.gz", None),
        ("a.arrow.bz2", None),
        ("a.gz", None),
        ("a.txt", None),
        ("csv", None),
        (".csv", None),
    ],
)
def test_the_suffix_says_how_a_file_is_read(name: str, suffix: str | None) -> None:
    assert table_suffix(name) == suffix


@pytest.mark.parametrize(
    ("name", "content", "typed", "cells"),
    [
        ("a.csv", b"id,text,label\n7,good,01\n", False, [("01", "good")]),
        ("a.tsv", b"text\tlabel\ngood\t01\n", False, [("01", "good")]),
        ("a.csv.gz", gzip.compress(b"text,label\ngood,01\n", mtime=0), False, [("01", "good")]),
        ("a.ndjson", b'{"text": "good", "label": 1}\n', True, [(1, "good")]),
        ("a.json", b'[{"text": "good", "label": true}]', True, [(True, "good")]),
    ],
)
def test_cells_come_in_the_order_of_the_asked_columns(
    name: str, content: bytes, typed: bool, cells: list[tuple[object, ...]], tmp_path: Path
) -> None:
    table = file_table(source_file(tmp_path / name, content), ("label", "text"))
    assert (table.source, table.typed, [row.cells for row in table.rows]) == (name, typed, cells)


def test_a_separator_parts_the_cells_of_a_csv_file(tmp_path: Path) -> None:
    file = source_file(tmp_path / "a.csv", b"text;label\na,b;1\n")
    assert list(file_table(file, ("text", "label"), separator=";").rows) == [Row(("a,b", "1"), line=2)]


@pytest.mark.parametrize(
    ("name", "given"), [("a.xlsx", ".xlsx"), ("a.parquet.gz", ".gz"), ("rows", "a file without suffix")]
)
def test_an_unknown_suffix_is_refused_before_the_file_is_opened(name: str, given: str) -> None:
    file = SourceFile(path=Path("nowhere"), name=name, source="rows of mine")
    with pytest.raises(DataError) as error:
        file_table(file, ("text",))
    remedy = "; save the sheet as CSV UTF-8" if name == "a.xlsx" else ""
    assert str(error.value) == (
        f"rows of mine: cannot read {given}; expected .csv, .tsv, .jsonl, .ndjson, .parquet, .json, .arrow{remedy}"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv: the file is empty"),
        (
            "\ufefftext".encode("utf-16-le"),
            "a.csv: the file is UTF-16, not UTF-8; convert it: iconv -f UTF-16 -t UTF-8",
        ),
        (
            b"PK\x03\x04\xff\xfe",
            "a.csv: the file is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV UTF-8",
        ),
        (gzip.compress(b"text\ngood\n", mtime=0), "a.csv: the file is compressed; end its name in .gz"),
        (b"PAR1\x15\xff", "a.csv: the file is Parquet; call it .parquet"),
        (b"text\ngood\n\xff\n", "a.csv: line 3 is not UTF-8; convert the file, for example with iconv"),
    ],
)
def test_a_fault_of_the_rows_is_raised_while_they_are_taken(content: bytes, message: str, tmp_path: Path) -> None:
    table = file_table(source_file(tmp_path / "a.csv", content), ("text",))
    with pytest.raises(DataError) as error:
        list(table.rows)
    assert str(error.value) == message


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    table = file_table(SourceFile(path=tmp_path / "a.csv", name="a.csv", source="a.csv"), ("text",))
    with pytest.raises(DataError, match=r"^a\.csv: cannot be read: "):
        list(table.rows)
