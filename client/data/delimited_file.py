"""Read CSV and TSV, which know text alone.

CSV follows RFC 4180 (quotes, doubled quotes, newlines inside quotes); TSV has no quoting, as its media type says, so a
stray quote in a text cannot swallow lines. Rows count from 1 and do not include the header.
"""

import csv
from collections.abc import Iterator, Sequence

from fedcore.client.data.table import Cells, SourceFile, check_columns
from fedcore.core.errors import DataError

LONGEST = 2**31 - 1  # characters of a CSV cell: Python's own limit, a sixteen-thousandth of it, is for strangers' files


def comma(file: SourceFile, columns: Sequence[str], separator: str = ",") -> Iterator[Cells]:
    """Yield the cells of a CSV file, or of one whose cells another character parts."""
    csv.field_size_limit(LONGEST)
    with file.text(newline="") as lines:
        yield from _delimited(file.source, csv.reader(lines, strict=True, delimiter=separator), columns)


def tab(file: SourceFile, columns: Sequence[str]) -> Iterator[Cells]:
    """Yield the cells of a TSV file."""
    with file.text(newline="\n") as text:
        lines = (line.rstrip("\r\n").split("\t") for line in text)
        yield from _delimited(file.source, (cells if cells != [""] else [] for cells in lines), columns)


def _delimited(source: str, records: Iterator[list[str]], columns: Sequence[str]) -> Iterator[Cells]:
    number = 0
    try:
        header = next(records, [])
        check_columns(source, columns, header)
        places = [header.index(column) for column in columns]
        for number, record in enumerate((each for each in records if each), start=1):
            if len(record) != len(header):
                raise DataError(f"{source}: row {number} has {len(record)} cells, the header has {len(header)}")
            yield tuple(record[place] for place in places)
    except csv.Error as cause:
        raise DataError(f"{source}: row {number + 1} is not valid CSV: {cause}") from None
