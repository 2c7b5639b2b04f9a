"""Read JSON: an object per line, or one array of objects, whose rows have no lines. Blank lines are no rows."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from fedcore.client.data.table import Row, SourceFile, check_columns
from fedcore.core.boundary import reason
from fedcore.core.errors import DataError

_Record = tuple[int, Any]  # the line it begins on, 0 in an array; what it holds

EXPECTED = "; expected an object on every line (.jsonl), or one array of objects (.json)"

_BEGINNING = 4096  # characters in which the first one that is no blank is looked for


def json_lines(file: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with an object on every line."""
    with file.text(newline="\n") as text:
        yield from _rows(file.source, _lines(file.source, text), columns)


def json_array(file: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file with one array of objects; of one with an object on every line as well."""
    with file.text(newline="\n") as text:
        beginning = text.read(_BEGINNING).lstrip()
        text.seek(0)
        records = _array(file.source, text) if beginning.startswith("[") else _lines(file.source, text)
        yield from _rows(file.source, records, columns)


def _lines(source: str, text: IO[str]) -> Iterator[_Record]:
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise DataError(f"{source}: row {number} is not valid JSON: {reason(cause)}{EXPECTED}") from None


def _array(source: str, text: IO[str]) -> Iterator[_Record]:
    try:
        records: list[Any] = json.load(text)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as cause:
        raise DataError(f"{source}: not valid JSON: {reason(cause)}{EXPECTED}") from None
    return ((0, record) for record in records)


def _rows(source: str, records: Iterable[_Record], columns: Sequence[str]) -> Iterator[Row]:
    for number, (line, record) in enumerate(records, start=1):
        if number == 1 and line and isinstance(record, list):
            raise DataError(f"{source}: row {line} is an array{EXPECTED}")
        if not isinstance(record, dict):
            yield Row((), line, f"expected a JSON object, got {type(record).__name__}; drop it")
            continue
        if number == 1:  # stands for a header: the columns may be called otherwise
            check_columns(f"{source}: row {line or 1}", columns, list(record))
        missing = next((column for column in columns if column not in record), None)
        if missing is not None:
            yield Row((), line, f"no {missing!r} in the object; add it or drop the row")
            continue
        yield Row(tuple(record[column] for column in columns), line)
