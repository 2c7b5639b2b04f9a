"""Read CSV and TSV, which know text alone.

CSV follows RFC 4180 (quotes, doubled quotes, newlines inside quotes); TSV has no quoting, as its media type says, so a
stray quote in a text cannot swallow lines.
"""

import csv
import itertools
from collections.abc import Iterator, Sequence

from fedcore.client.data.header_doubts import header_mistake
from fedcore.client.data.table import Row, SourceFile, check_columns
from fedcore.core.errors import DataError

LONGEST = 2**31 - 1  # characters of a CSV cell: Python's own limit, a sixteen-thousandth of it, is for strangers' files

_Record = tuple[int, list[str]]  # the line it begins on, its cells

_PEEKED = 20  # records that are looked at to tell what is wrong with a header
_QUOTES = "a quotation mark is never closed, or one inside a text is not doubled"


def comma(file: SourceFile, columns: Sequence[str], separator: str = ",") -> Iterator[Row]:
    """Yield the rows of a CSV file, or of one whose cells another character parts."""
    csv.field_size_limit(LONGEST)
    with file.text(newline="") as lines:
        records = _csv_records(file.source, lines, separator)
        yield from _rows(file.source, records, columns, separator)


def tab(file: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a TSV file."""
    with file.text(newline="\n") as text:
        lines = (line.rstrip("\r\n").split("\t") for line in text)
        records = enumerate((cells if cells != [""] else [] for cells in lines), start=1)
        yield from _rows(file.source, records, columns, "\t")


def _csv_records(source: str, lines: Iterator[str], separator: str) -> Iterator[_Record]:
    reader = csv.reader(lines, strict=True, delimiter=separator)
    begin = 1
    try:
        for cells in reader:
            yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as cause:
        raise DataError(f"{source}: line {begin} is not valid CSV: {cause}; {_QUOTES}") from None


def _rows(source: str, records: Iterator[_Record], columns: Sequence[str], separator: str) -> Iterator[Row]:
    header = next((cells for _, cells in records if cells), [])
    if not set(columns) <= set(header):
        _refuse(source, header, records, columns, separator)
    check_columns(source, columns, header)
    places = [header.index(column) for column in columns]
    for line, cells in records:
        if not cells:
            continue
        if cells == header:
            yield Row((), line, "the header again; drop the line")
        elif len(cells) != len(header):
            yield Row((), line, _ragged(len(cells), len(header), separator))
        else:
            yield Row(tuple(cells[place] for place in places), line)


def _refuse(
    source: str, header: Sequence[str], records: Iterator[_Record], columns: Sequence[str], separator: str
) -> None:
    """Raise DataError where it can be told what is wrong with a header that lacks one of `columns`."""
    try:
        following = [cells for _, cells in itertools.islice(records, _PEEKED) if cells]
    except DataError:  # of a line that is no CSV: the header alone has to do
        following = []
    mistake = header_mistake(header, following, columns, separator)
    if mistake is not None:
        raise DataError(f"{source}: {mistake}")


def _ragged(cells: int, expected: int, separator: str) -> str:
    fault = f"{cells} cells, the header has {expected}"
    if separator == "\t":
        return f"{fault}; a text must not hold a tab or a line break"
    if cells > expected:
        return f"{fault}; put quotation marks around a text that holds {separator!r}"
    return f"{fault}; put quotation marks around a text with a line break, or drop the row"
