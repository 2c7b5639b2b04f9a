"""Read chosen columns of a local CSV, TSV, JSONL or Parquet file.

Every reader yields, per data row and in file order, the raw cells of the asked columns. Rows count from 1 and do not
include the header. CSV follows RFC 4180 (quotes, doubled quotes, newlines inside quotes); TSV has no quoting, as its
media type says, so a stray quote in a text cannot swallow lines.
"""

import csv
import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedcore.core.errors import DataError

LONGEST = 2**31 - 1  # characters of a CSV cell: Python's own limit, a sixteen-thousandth of it, is for strangers' files

Cells = tuple[Any, ...]
Reader = Callable[[Path, Sequence[str]], Iterator[Cells]]


def read_columns(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    """Yield one tuple of raw cells per row of `path`, in the order of `columns`.

    Raises DataError for an unknown suffix, an empty or unreadable file, a missing column (naming those there are),
    a ragged row, a malformed line, or bytes that are not UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: cannot read {path.suffix or 'a file without suffix'}; expected {', '.join(READERS)}")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        yield from reader(path, columns)
    except UnicodeDecodeError:
        line = _first_undecodable(path)
        raise DataError(f"{path}: line {line} is not UTF-8; convert the file, for example with iconv") from None
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from None


def check_columns(source: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise DataError naming the first of `wanted` that `source` lacks, the nearest one and all that exist."""
    for column in wanted:
        if column not in found:
            near = difflib.get_close_matches(column, found, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise DataError(f"{source}: no column {column!r}; {hint}columns: {', '.join(found) or 'none'}")


def _comma(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    csv.field_size_limit(LONGEST)
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from _delimited(path, csv.reader(file, strict=True), columns)


def _tab(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        lines = (line.rstrip("\r\n").split("\t") for line in file)
        yield from _delimited(path, (cells if cells != [""] else [] for cells in lines), columns)


def _delimited(path: Path, records: Iterator[list[str]], columns: Sequence[str]) -> Iterator[Cells]:
    number = 0
    try:
        header = next(records, [])
        check_columns(str(path), columns, header)
        twice = [column for column in columns if header.count(column) > 1]
        if twice:
            raise DataError(f"{path}: {header.count(twice[0])} columns are called {twice[0]!r}; rename all but one")
        places = [header.index(column) for column in columns]
        for number, record in enumerate((each for each in records if each), start=1):
            if len(record) != len(header):
                raise DataError(f"{path}: row {number} has {len(record)} cells, the header has {len(header)}")
            yield tuple(record[place] for place in places)
    except csv.Error as cause:
        raise DataError(f"{path}: row {number + 1} is not valid CSV: {cause}") from None


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate((each for each in file if each.strip()), start=1):
            try:
                record = json.loads(line)
            except ValueError as cause:
                raise DataError(f"{path}: row {number} is not valid JSON: {cause}") from None
            if not isinstance(record, dict):
                raise DataError(f"{path}: row {number}: expected a JSON object, got {type(record).__name__}")
            check_columns(f"{path}: row {number}", columns, list(record))
            yield tuple(record[column] for column in columns)


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Cells]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            check_columns(str(path), columns, file.schema_arrow.names)
            for batch in file.iter_batches(columns=list(columns)):
                cells = batch.to_pydict()
                yield from zip(*(cells[column] for column in columns), strict=True)
    except pyarrow.ArrowException as cause:
        raise DataError(f"{path}: not a readable Parquet file: {str(cause).splitlines()[0]}") from None


def _first_undecodable(path: Path) -> int:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 0


UNTYPED = (".csv", ".tsv")  # suffixes of files in which every cell is text
READERS: dict[str, Reader] = {
    ".csv": _comma,
    ".tsv": _tab,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
