"""Rows of text with a target, such as a label: what devices train on and the evaluator tests on."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.client.data.hub_table import hub_tables
from fedcore.client.data.row_faults import RowFaults
from fedcore.client.data.table import Cells, ClassNumber, SourceFile, Table
from fedcore.client.data.table_file import file_table
from fedcore.core.data.device_rows import counted
from fedcore.core.data.dialogue import row_of
from fedcore.core.errors import DataError
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.task import Targets, Task
from fedcore.storage.places import local_path

MOST_LABELS = 10  # that a message names
LONGEST_LABEL = 60  # characters of a label that a message quotes
MOST_DIGITS = 300  # of a label that counts as a number; Python reads no more than some thousand
_WHOLE_FLOAT = re.compile(rf"[+-]?\d{{1,{MOST_DIGITS}}}\.0*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Texts with targets. `texts[i]` holds the one or two texts of row i, `labels[i]` its label, or target, as text."""

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    source: str = ""  # the file or hub id they came from, for messages
    class_numbers: tuple[tuple[str, int], ...] = ()  # of labels that the data name: (name, number stored for it)
    groups: tuple[str, ...] = ()  # values of the column that rows are dealt by, where one was read
    places: tuple[int, ...] = field(default=(), compare=False, repr=False)  # lines of the file; without lines, -row

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise DataError(f"{self.source}: {len(self.texts)} texts but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Iterable[int] | NDArray[np.int64]) -> "Rows":
        """Return the rows at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return replace(
            self,
            texts=tuple(self.texts[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
            groups=tuple(self.groups[index] for index in chosen) if self.groups else (),
            places=tuple(self.places[index] for index in chosen) if self.places else (),
        )

    def under(self, agreed: Sequence[str]) -> "Rows":
        """Return the rows as a run with the labels `agreed` knows them: where it has class numbers, by their numbers.

        Data that name their classes are read by name; a run whose labels are the numbers goes on with those.
        """
        numbers = {name: str(number) for name, number in self.class_numbers}
        if not numbers or set(self.labels) & set(agreed) or not set(numbers.values()) & set(agreed):
            return self
        return replace(self, labels=tuple(numbers.get(label, label) for label in self.labels), class_numbers=())


def read_rows(
    path: str | Path,
    *,
    text: Sequence[str],
    label: str,
    by: str = "",
    cache: Path | None = None,
    written: bool = False,
) -> Rows:
    """Read the `text` columns (one, or two for pair tasks), the `label` column, and the column `by`, if it has a name.

    `path` is a local CSV, TSV, JSON, JSONL, Parquet or Arrow file, or else a local folder or hub id, whose files the
    `datasets` library finds (see `hub_tables`) and caches under `cache`. Labels become strings: 0, 0.0 and False are
    all "0", and so is what CSV and TSV, which know no types, spell 0.0; a word such as "false" stays one there. Where
    the data name their classes, a class number becomes its name. `written` rows are those of a model that writes
    (fedcore.core.data.dialogue): one text column, and answers in `label`, or without that column where it is "".
    Raises DataError naming the file and the column, and every row that cannot be read, by its line where there are any.
    """
    if len(text) not in (1, 2):
        raise DataError(f"expected one text column, or two for pair tasks, got {len(text)}")
    source = str(path)
    tables = _tables(source, columns_of(text, label, by), cache)
    return rows_of(tables, text=text, label=label, by=by, source=source, written=written)


def columns_of(text: Sequence[str], label: str, by: str) -> tuple[str, ...]:
    """Return the columns to read, as `rows_of` takes their cells: `by` is last, unless it is read already."""
    read = (*text, label) if label else tuple(text)
    return (*read, by) if by and by not in read else read


def has_columns(path: str | Path, columns: Sequence[str], cache: Path | None = None) -> bool:
    """Whether the data in `path` have these columns, as far as their first row tells."""
    try:
        return any(not row.fault for table in _tables(str(path), columns, cache) for row in islice(table.rows, 1))
    except DataError:
        return False


def rows_of(
    tables: Iterable[Table], *, text: Sequence[str], label: str, source: str, by: str = "", written: bool = False
) -> Rows:
    """Return the rows of all tables; their cells are those of `columns_of`.

    `source` names all of them in messages. Raises DataError as `read_rows`; one error tells the faults of all rows.
    """
    texts: list[tuple[str, ...]] = []
    labels: list[str] = []
    groups, places = list[str](), list[int]()
    columns = columns_of(text, label, by)
    numbers: set[tuple[str, int]] = set()
    faults = RowFaults()
    for table in tables:
        for number, row in enumerate(table.rows, start=1):
            cells, found = row.cells, [row.fault] if row.fault else []
            if not found:
                if written:
                    cells, found = _written_cells(row.cells, answered=bool(label))
                else:
                    found = _faults(cells, columns, len(text))
            for fault in found:
                faults.add(table.source, fault, line=row.line, row=number)
            if found:
                continue
            places.append(row.line or -number)
            target = cells[len(text)]
            texts.append(cells[: len(text)])
            labels.append(target if written else _label(target, typed=table.typed))
            if by:
                groups.append(_label(row.cells[columns.index(by)], typed=table.typed))
            if isinstance(target, ClassNumber):
                numbers.add((labels[-1], target.number))
    faults.check()
    if not labels:
        raise DataError(f"{source}: no data row; expected at least one below the header")
    return Rows(
        texts=tuple(texts),
        labels=tuple(labels),
        source=source,
        class_numbers=tuple(sorted(numbers)),
        groups=tuple(groups),
        places=tuple(places),
    )


def _written_cells(cells: Cells, *, answered: bool) -> tuple[Cells, list[str]]:
    """Return text and target of a row of a model that writes, and what is wrong with it."""
    try:
        text, target = row_of(cells[0], cells[1] if answered else None)
    except ValueError as fault:
        return (), [str(fault)]
    broken = _broken("text", text + target)
    return (text, target), [broken] if broken else []


def _tables(spec: str, columns: Sequence[str], cache: Path | None) -> Iterable[Table]:
    local = local_path(spec)
    if local.is_file():
        return (file_table(SourceFile(path=local, name=local.name, source=spec), columns),)
    return hub_tables(str(local), columns, cache)


def label_list(rows: Rows) -> tuple[str, ...]:
    """Return the different labels of `rows`, whole numbers by value before all others by spelling."""
    return tuple(sorted(set(rows.labels), key=lambda label: (0, int(label), "") if _whole(label) else (1, 0, label)))


def label_ids(rows: Rows, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return each row's position in the agreed list `labels`, int64 of shape (rows,).

    Raises DataError naming every label that is not in the list, and how many rows have it.
    """
    return targets_of(rows, labels, CLASSIFICATION)


def targets_of(rows: Rows, labels: Sequence[str], task: Task) -> Targets:
    """Return the targets of the rows under a task and the agreed `labels`, (rows,).

    Raises DataError for rows without one: naming every label that is not in the list, and how many rows have it; or,
    under a task without labels, every text that is no target, and its rows.
    """
    if task.labelled:
        rows = rows.under(labels)
        check_labels(rows, labels, remedy="drop these rows or add the labels to [data] labels")
    _check_targets(rows, task)
    return task.targets(rows.labels, labels)


def own_labels(rows: Rows, task: Task) -> tuple[str, ...]:
    """Return the labels of `rows`, as `label_list`, that a member tells when it joins; none under a task without.

    Raises DataError for rows without a target, which the member could not train on or measure.
    """
    _check_targets(rows, task)
    return label_list(rows) if task.labelled else ()


def _check_targets(rows: Rows, task: Task) -> None:
    if task.fault is None:
        return
    faults, places = RowFaults(), rows.places or range(-1, -len(rows) - 1, -1)
    for label, place in zip(rows.labels, places, strict=True):
        if wrong := task.fault(label):
            faults.add(rows.source or "data", wrong, line=max(0, place), row=-place)
    faults.check()


def check_labels(rows: Rows, agreed: Sequence[str], *, remedy: str) -> None:
    """Raise DataError where rows have labels that are not in `agreed`: all of those labels, with their rows."""
    known = set(agreed)
    strange = Counter(label for label in rows.labels if label not in known)
    if strange:
        raise DataError(
            f"{rows.source or 'data'}: {counted(strange.total(), 'row')} outside the agreed labels "
            f"[{_some(agreed)}]: {told_labels(strange)}; {remedy}"
        )


def told_labels(counts: Mapping[str, int]) -> str:
    """Return "'a' (7 rows), 'b' (1 row)", the most frequent first, and how many labels are left out."""
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    told = ", ".join(f"{_quoted(label)} ({counted(counts[label], 'row')})" for label in ordered[:MOST_LABELS])
    return told + (f" and {len(ordered) - MOST_LABELS} more" if len(ordered) > MOST_LABELS else "")


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(labels[:MOST_LABELS]) + more


def _quoted(label: str) -> str:
    return repr(label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 3]}...")


def split_by_hash(rows: Rows, fraction: float) -> tuple[Rows, Rows]:
    """Split into (train, test), with about `fraction` in [0, 1) of the rows in test.

    A row's side depends on the sha256 of its texts alone, so it is the same on every machine and in every order, and
    equal texts never stand on both sides. A side may be empty when there are few rows.
    Raises DataError for a fraction out of range.
    """
    if not 0.0 <= fraction < 1.0:
        raise DataError(f"the test fraction must be in [0, 1), got {fraction}")
    held_back = [_position(texts) < fraction for texts in rows.texts]
    train = rows.select(index for index, held in enumerate(held_back) if not held)
    test = rows.select(index for index, held in enumerate(held_back) if held)
    return train, test


def _faults(cells: Cells, columns: Sequence[str], texts: int) -> list[str]:
    """Return all that is wrong with a row: its texts first, its label and the value that it is dealt by last."""
    named = list(zip(columns, cells, strict=True))
    found = [_text_fault(column, cell) for column, cell in named[:texts]]
    found += [
        _label_fault(column, cell, "label column" if place == 0 else "column")
        for place, (column, cell) in enumerate(named[texts:])
    ]
    return [fault for fault in found if fault]


def _text_fault(column: str, cell: Any) -> str:
    if cell is not None and not isinstance(cell, str):
        return f"column {column!r} holds {type(cell).__name__}, expected text"
    if cell is None or not cell.strip():
        return f"column {column!r} is empty; fill it or drop the row"
    return _broken(column, cell)


def _label_fault(column: str, cell: Any, what: str) -> str:
    name = cell.name if isinstance(cell, ClassNumber) else cell
    missing = name is None or (isinstance(name, float) and name != name)  # Parquet writers store NaN for no number
    if not missing and not isinstance(name, str | int | float):
        return f"{what} {column!r} holds {type(name).__name__}, expected text or a number"
    if missing or not str(name).strip():
        return f"{what} {column!r} is empty; fill it or drop the row"
    return _broken(column, str(name))


def _broken(column: str, text: str) -> str:
    """Return a fault where no tokenizer and no hash can take a text: half of a character, as JavaScript cuts it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"column {column!r} holds half of a surrogate pair; take it out or drop the row"
    return ""


def _label(cell: Any, *, typed: bool) -> str:
    """Return the label that a cell without a fault spells."""
    if isinstance(cell, ClassNumber):
        cell = cell.name
    if not typed and isinstance(cell, str) and _WHOLE_FLOAT.fullmatch(cell.strip()):
        cell = int(cell.strip().partition(".")[0])
    if isinstance(cell, bool) or (isinstance(cell, float) and cell.is_integer()):
        cell = int(cell)
    return str(cell).strip()


def _position(texts: tuple[str, ...]) -> float:
    """Where a row lies on [0, 1): the first 53 bits of the sha256 of its texts, exact as a float."""
    digest = hashlib.sha256("\x1f".join(texts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _whole(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit() and len(label) <= MOST_DIGITS
