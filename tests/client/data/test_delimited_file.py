"""CSV and TSV: lines as an editor counts them, faults of rows, mistakes of the whole file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fedcore.client.data.delimited_file import comma, tab
from fedcore.client.data.table import Row, SourceFile
from fedcore.core.errors import DataError

COLUMNS = ("text", "label")
Reader = Callable[[SourceFile, Sequence[str]], Iterator[Row]]


def rows_of(folder: Path, content: str, reader: Reader = comma) -> list[Row]:
    path = folder / "a"
    path.write_bytes(content.encode())
    return list(reader(SourceFile(path=path, name="a", source="a"), COLUMNS))


def test_lines_are_counted_as_an_editor_does(tmp_path: Path) -> None:
    content = 'text,label\r\na,x\r\n\r\n"two\r\nlines",y\r\n"",z\n'
    assert [(row.cells[1], row.line) for row in rows_of(tmp_path, content)] == [("x", 2), ("y", 4), ("z", 6)]
    assert [row.line for row in rows_of(tmp_path, "text\tlabel\n\na\tx\n\nb\ty", tab)] == [3, 5]


def test_a_ragged_row_is_a_fault_and_reading_goes_on(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "text,label\na,b,x\na\nb,y\n") == [
        Row((), 2, "3 cells, the header has 2; put quotation marks around a text that holds ','"),
        Row((), 3, "1 cells, the header has 2; put quotation marks around a text with a line break, or drop the row"),
        Row(("b", "y"), 4),
    ]
    (fault,) = rows_of(tmp_path, "text\tlabel\na\n", tab)
    assert fault.fault == "1 cells, the header has 2; a text must not hold a tab or a line break"


def test_blank_lines_before_the_header_are_skipped(tmp_path: Path) -> None:
    assert rows_of(tmp_path, "\n\ntext,label\na,x\n") == [Row(("a", "x"), 4)]


def test_a_second_header_is_no_row(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "text,label\na,x\ntext,label\nb,y\n")
    assert [row.fault for row in rows] == ["", "the header again; drop the line", ""]


@pytest.mark.parametrize(
    ("content", "reader", "message"),
    [
        ("text;label\na;b\n", comma, "a: the file is separated by ';', not by ','"),
        ("text\tlabel\na\tb\n", comma, "a: the file is separated by tabs, not by ','; call it .tsv"),
        ("text,label\na,b\n", tab, "a: the file is separated by ',', not by tabs; call it .csv"),
        ("good film,pos\nbad film,pos\n", comma, "a: no column 'text': the first line looks like a row"),
        ('text;label\n"a;b\n', comma, "a: the file is separated by ';'"),
        ("review,label\na,b\n", comma, "a: no column 'text'; columns: review, label"),
        ('text,label\n"a" b,c\n', comma, "a: line 2 is not valid CSV: ',' expected after '\"'; a quotation mark"),
    ],
)
def test_a_mistake_of_the_whole_file_is_named(content: str, reader: Reader, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        rows_of(tmp_path, content, reader)
    assert str(error.value).startswith(message)
