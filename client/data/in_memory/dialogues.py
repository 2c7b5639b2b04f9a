"""Prompts with answers, chats and plain texts that a program hands over: rows for models that write.

A table has one of the shapes of `fedcore.client.data.in_memory.tables` with the columns that a file would have (prompt
and response, messages, text, or those that [data] names), or one of these:

    [[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}], ...]     a chat per row
    ["...", ...]                                                                             a text per row
    (prompts, answers)                                                                       two sequences
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fedcore.client.data.in_memory.tables import cells_of, is_pair
from fedcore.core.errors import DataError
from fedcore.core.tasks.task import Task

WrittenRows = list[dict[str, Any]]
CHAT, TEXT, PAIR = "messages", "text", ("prompt", "response")


def written_in_memory(
    table: Any, task: Task, *, named: tuple[str, str] | None, by: str, source: str, certain: bool
) -> WrittenRows | None:
    """Return the rows of a table by column, as a JSON file holds them.

    `named` are its columns of text and answers, None where nobody names any; `by` is one more column to read, where it
    is not empty. Unless it is `certain` that the rows are for `task`, None where their columns do not say so. Raises
    DataError, naming the table, for columns that are not there and cells that a file cannot hold.
    """
    table = _with_columns(table, certain=certain)
    form = named if certain and named else _form(_names(table), task, certain=certain)
    if form is None:
        if not certain:
            return None
        raise DataError(f"{source}: no columns of task {task.name} found; expected one of: {task.usual_columns}")
    columns = [column for column in dict.fromkeys((*form, by)) if column]
    rows = []
    for number, cells in enumerate(cells_of(table, columns, source), start=1):
        where = f"{source}: row {number}: column"
        rows.append({name: _plain(cell, f"{where} {name!r}") for name, cell in zip(columns, cells, strict=True)})
    if not rows:
        raise DataError(f"{source}: no row; expected at least one")
    return rows


def _with_columns(table: Any, *, certain: bool) -> Any:
    """Return a table of this page's own shapes as one with columns, and any other as it is."""
    if is_pair(table):
        return dict(zip(PAIR, table, strict=True)) if certain else table
    if isinstance(table, list | tuple) and table:
        if all(isinstance(row, str) for row in table):
            return {TEXT: table}
        if all(isinstance(row, list | tuple) and row and isinstance(row[0], Mapping) for row in table):
            return {CHAT: table}
    return table


def _names(table: Any) -> set[str]:
    for names in ("column_names", "columns"):  # of a datasets.Dataset; of a pandas frame
        if getattr(table, names, None) is not None:
            return set(map(str, getattr(table, names)))
    if isinstance(table, Mapping):
        return set(map(str, table))
    first = table[0] if isinstance(table, list | tuple) and table else None
    return set(map(str, first)) if isinstance(first, Mapping) else set()


def _form(names: set[str], task: Task, *, certain: bool) -> tuple[str, str] | None:
    """Return the first form whose columns are there; where nothing is certain, a column of texts may be anything's."""
    forms = task.forms if certain else [form for form in task.forms if form != (TEXT, "")]
    if not certain and {TEXT, "label"} <= names:
        return None
    return next((form for form in forms if set(filter(None, form)) <= names), None)


def _plain(cell: Any, where: str) -> Any:
    """Return a cell as JSON has it; lists of turns may come as arrays, or as one list per key."""
    if hasattr(cell, "tolist"):
        cell = cell.tolist()
    if isinstance(cell, Mapping):
        columns = {str(key): _plain(value, where) for key, value in cell.items()}
        return _turns(columns) if columns and all(isinstance(value, list) for value in columns.values()) else columns
    if isinstance(cell, Sequence) and not isinstance(cell, str | bytes):
        return [_plain(value, where) for value in cell]
    if type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell):
        return None
    if not isinstance(cell, str | int | float | None):
        raise DataError(f"{where} holds {type(cell).__name__}, expected texts")
    return cell


def _turns(columns: Mapping[str, list[Any]]) -> Any:
    lengths = set(map(len, columns.values()))
    if len(lengths) != 1:
        return columns
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def listed(table: Any) -> Any:
    """Return a table that can be looked at more than once: rows that come one by one as a list."""
    by_columns = isinstance(table, Mapping | str | bytes | tuple) or hasattr(table, "__getitem__")
    return list(table) if isinstance(table, Iterable) and not by_columns else table
