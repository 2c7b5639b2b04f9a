"""Read JSON: an object per line, or one array of objects. Rows count from 1; blank lines are none."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from fedcore.client.data.table import Cells, SourceFile, check_columns
from fedcore.core.boundary import reason
from fedcore.core.errors import DataError

_BEGINNING = 4096  # characters in which the first one that is no blank is looked for


def json_lines(file: SourceFile, columns: Sequence[str]) -> Iterator[Cells]:
    """Yield the cells of a file with an object on every line."""
    with file.text(newline="\n") as text:
        yield from _cells(file.source, _lines(file.source, text), columns)


def json_array(file: SourceFile, columns: Sequence[str]) -> Iterator[Cells]:
    """Yield the cells of a file with one array of objects; of one with an object on every line as well."""
    with file.text(newline="\n") as text:
        beginning = text.read(_BEGINNING).lstrip()
        text.seek(0)
        records = _array(file.source, text) if beginning.startswith("[") else _lines(file.source, text)
        yield from _cells(file.source, records, columns)


def _lines(source: str, text: IO[str]) -> Iterator[Any]:
    for number, line in enumerate((each for each in text if each.strip()), start=1):
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise DataError(f"{source}: row {number} is not valid JSON: {reason(cause)}") from None


def _array(source: str, text: IO[str]) -> list[Any]:
    try:
        records: list[Any] = json.load(text)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as cause:
        raise DataError(f"{source}: not valid JSON: {reason(cause)}") from None
    return records


def _cells(source: str, records: Iterable[Any], columns: Sequence[str]) -> Iterator[Cells]:
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise DataError(f"{source}: row {number}: expected a JSON object, got {type(record).__name__}")
        check_columns(f"{source}: row {number}", columns, list(record))
        yield tuple(record[column] for column in columns)
