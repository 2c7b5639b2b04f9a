"""Read chosen columns of one local file by its suffix: the one reader behind every door that rows come through.

A file, a folder of files, a data set of a hub and a fetched table are all read here, so the same file gives the same
rows wherever it lies. Every reader yields the data rows in file order, with the raw cells of the asked columns.
"""

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedcore.client.data.arrow_file import arrow, parquet
from fedcore.client.data.delimited_file import comma, tab
from fedcore.client.data.header_doubts import UTF_16
from fedcore.client.data.json_file import json_array, json_lines
from fedcore.client.data.table import COMPRESSED, Row, SourceFile, Table
from fedcore.core.boundary import Boundary
from fedcore.core.errors import DataError

Reader = Callable[[SourceFile, Sequence[str]], Iterator[Row]]

UNTYPED = (".csv", ".tsv")  # suffixes of files in which every cell is text
READERS: dict[str, Reader] = {
    ".csv": comma,
    ".tsv": tab,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".parquet": parquet,
    ".json": json_array,
    ".arrow": arrow,
}
_BINARY = (".parquet", ".arrow")  # compressed inside, so never around
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_MARKS = {  # how files begin that are no text; what they are, and the remedy
    codecs.BOM_UTF16_LE: UTF_16,
    codecs.BOM_UTF16_BE: UTF_16,
    b"PK\x03\x04": "the file is a zip archive or a spreadsheet; unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "the file is an old spreadsheet; save the sheet as CSV UTF-8",
    b"\x1f\x8b": "the file is compressed; end its name in .gz",
    b"BZh": "the file is compressed; end its name in .bz2",
    b"\xfd7zXZ": "the file is compressed; end its name in .xz",
    b"PAR1": "the file is Parquet; call it .parquet",
}


def file_table(file: SourceFile, columns: Sequence[str], *, separator: str = ",") -> Table:
    """Return the asked columns of `file`; what is wrong with its rows is raised while they are taken.

    `separator` parts the cells of a .csv file. Raises DataError for an unknown suffix, an empty or unreadable file, a
    missing column (naming those there are), a malformed line, or bytes that are not UTF-8. A ragged row has a fault.
    """
    suffix = table_suffix(file.name)
    if suffix is None:
        given = Path(file.name).suffix or "a file without suffix"
        remedy = "; save the sheet as CSV UTF-8" if given.lower() in _SHEETS else ""
        raise DataError(f"{file.source}: cannot read {given}; expected {', '.join(READERS)}{remedy}")
    rows = comma(file, columns, separator) if suffix == ".csv" else READERS[suffix](file, columns)
    return Table(source=file.source, typed=suffix not in UNTYPED, rows=_checked(file, rows))


def table_suffix(name: str) -> str | None:
    """Return the suffix by which a file of this name is read, without that of a compression; None for no table."""
    path = Path(name)
    packed = path.suffix.lower() in COMPRESSED
    suffix = Path(path.stem).suffix.lower() if packed else path.suffix.lower()
    return suffix if suffix in READERS and not (packed and suffix in _BINARY) else None


def _checked(file: SourceFile, rows: Iterator[Row]) -> Iterator[Row]:
    with Boundary(DataError, f"{file.source}: cannot be read"):
        if file.path.stat().st_size == 0:
            raise DataError(f"{file.source}: the file is empty")
        try:
            yield from rows
        except UnicodeDecodeError:
            raise DataError(f"{file.source}: {_encoding_fault(file)}") from None


def _encoding_fault(file: SourceFile) -> str:
    """Return what is wrong with the encoding of a file that is not UTF-8, and the remedy."""
    with file.bytes() as lines:
        beginning = lines.read(max(map(len, _MARKS)))
        known = next((fault for mark, fault in _MARKS.items() if beginning.startswith(mark)), None)
        if known is not None:
            return known
        lines.seek(0)
        for number, line in enumerate(lines, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"line {number} is not UTF-8; convert the file, for example with iconv"
    return "not UTF-8; convert the file, for example with iconv"
