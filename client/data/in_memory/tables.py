"""Rows that a program hands over instead of a file: lists, a `datasets.Dataset`, a pandas frame.

A table in memory has one of these shapes; `text` and `label` are the columns that [data] names:

    [{"text": "...", "label": 1}, ...]     a dict per row
    {"text": [...], "label": [...]}        a sequence per column
    (texts, labels)                        two sequences; every text a string, or a pair of strings for pair tasks
    datasets.Dataset, pandas.DataFrame

Labels become strings as those of a typed file do: 0, 0.0 and False are all "0".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedcore.client.data.rows import Rows, columns_of, rows_of
from fedcore.client.data.table import Cells, Row, Table, check_columns
from fedcore.core.errors import DataError

NAMED = "a list of dicts, a dict of columns, a datasets.Dataset or a pandas frame"
SHAPES = NAMED.replace("columns,", "columns, (texts, labels),")


def rows_in_memory(table: Any, *, text: Sequence[str], label: str, source: str, by: str = "") -> Rows:
    """Return the rows of a table in memory: its `text` columns (one, or two for pair tasks) and its `label` column.

    `by` is one more column to read, where it is not empty. `source` names the table in messages, such as "train".
    Raises DataError, naming the column and the row (from 1), for a shape, a column or a cell that cannot be used.
    """
    if by not in ("", label, *text) and is_pair(table):
        raise DataError(f"{source}: (texts, labels) has no column {by!r}, which data.partition names; expected {NAMED}")
    rows = [Row(tuple(map(_plain, row))) for row in cells_of(table, columns_of(text, label, by), source)]
    if not rows:
        raise DataError(f"{source}: no row; expected at least one")
    table = Table(source=source, typed=True, rows=iter(rows))
    return rows_of([table], text=text, label=label, by=by, source=source)


def cells_of(table: Any, columns: Sequence[str], source: str) -> Iterable[Cells]:
    """Yield the cells of some columns, row by row; raises DataError as `rows_in_memory`."""
    if is_pair(table):
        texts, labels = table
        return _of_pair(texts, labels, columns, source)
    if isinstance(table, Mapping):
        return _of_columns(table, list(map(str, table)), columns, source)
    for names in ("column_names", "columns"):  # of a datasets.Dataset; of a pandas frame
        if hasattr(table, names) and hasattr(table, "__getitem__"):
            return _of_columns(table, list(map(str, getattr(table, names))), columns, source)
    if isinstance(table, str | bytes) or not isinstance(table, Iterable):
        raise DataError(f"{source}: expected {SHAPES}, got {type(table).__name__}")
    return _of_dicts(table, columns, source)


def _of_columns(table: Any, names: Sequence[str], columns: Sequence[str], source: str) -> Iterable[Cells]:
    if isinstance(table, Mapping) and table and all(hasattr(each, "column_names") for each in table.values()):
        raise DataError(
            f"{source}: has the splits {', '.join(names)}; hand one of them over, such as data[{names[0]!r}]"
        )
    check_columns(source, columns, names)
    twice = [column for column in columns if names.count(column) > 1]
    if twice:
        raise DataError(f"{source}: {names.count(twice[0])} columns are called {twice[0]!r}; rename all but one")
    for column in columns:
        if isinstance(table[column], str) or not isinstance(table[column], Iterable):
            raise DataError(f"{source}: column {column!r}: expected a sequence, got {type(table[column]).__name__}")
    values = [list(table[column]) for column in columns]
    lengths = {column: len(cells) for column, cells in zip(columns, values, strict=True)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{count} in {column!r}" for column, count in lengths.items())
        raise DataError(f"{source}: columns of different lengths: {told}")
    return zip(*values, strict=True)


def _of_dicts(table: Iterable[Any], columns: Sequence[str], source: str) -> Iterator[Cells]:
    for number, row in enumerate(table, start=1):
        if not isinstance(row, Mapping):
            wanted = "{" + ", ".join(f"{column!r}: ..." for column in columns) + "}"
            raise DataError(
                f"{source}: row {number}: expected a dict such as {wanted}, got {type(row).__name__}; a sequence of "
                "texts and one of labels go as (texts, labels)"
            )
        check_columns(f"{source}: row {number}", columns, list(map(str, row)))
        yield tuple(row[column] for column in columns)


def _of_pair(texts: Iterable[Any], labels: Iterable[Any], columns: Sequence[str], source: str) -> Iterator[Cells]:
    held, named = list(texts), list(labels)
    if len(held) != len(named):
        raise DataError(f"{source}: {len(held)} texts but {len(named)} labels")
    wanted = len(columns) - 1
    for number, (text, label) in enumerate(zip(held, named, strict=True), start=1):
        parts = tuple(text) if isinstance(text, tuple | list) else (text,)
        if len(parts) != wanted:
            raise DataError(
                f"{source}: row {number} has {len(parts)} text(s), and data.text names {wanted} column(s); for pairs "
                'of texts override data.text with two names, such as ["text", "text_pair"]'
            )
        yield (*parts, label)


def is_pair(table: Any) -> bool:
    """Return whether the table is (texts, labels), and not a tuple of two rows."""
    return (
        isinstance(table, tuple)
        and len(table) == 2
        and all(isinstance(part, Iterable) and not isinstance(part, str | Mapping) for part in table)
    )


def _plain(cell: Any) -> Any:
    """Return a NumPy or torch scalar as a Python one, and pandas' word for a missing value as None."""
    if hasattr(cell, "item") and getattr(cell, "shape", None) == ():
        cell = cell.item()
    missing = type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)
    return None if missing else cell
