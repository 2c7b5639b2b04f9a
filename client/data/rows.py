"""Rows of text with a label: what devices train on and the evaluator tests on."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.client.data.hub_table import hub_tables
from fedcore.client.data.table import ClassNumber, SourceFile, Table
from fedcore.client.data.table_file import file_table
from fedcore.core.errors import DataError
from fedcore.storage.places import local_path

MOST_DIGITS = 300  # of a label that counts as a number; Python reads no more than some thousand
_WHOLE_FLOAT = re.compile(rf"[+-]?\d{{1,{MOST_DIGITS}}}\.0*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Labelled texts. `texts[i]` holds the one or two texts of row i, `labels[i]` its label as a string."""

    texts: tuple[tuple[str, ...], ...]
    labels: tuple[str, ...]
    source: str = ""  # the file or hub id they came from, for messages
    class_numbers: tuple[tuple[str, int], ...] = ()  # of labels that the data name: (name, number stored for it)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise DataError(f"{self.source}: {len(self.texts)} texts but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, indices: Iterable[int] | NDArray[np.int64]) -> "Rows":
        """Return the rows at `indices`, in that order."""
        chosen = [int(index) for index in indices]
        return Rows(
            texts=tuple(self.texts[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
            source=self.source,
            class_numbers=self.class_numbers,
        )

    def under(self, agreed: Sequence[str]) -> "Rows":
        """Return the rows as a run with the labels `agreed` knows them: where it has class numbers, by their numbers.

        Data that name their classes are read by name; a run whose labels are the numbers goes on with those.
        """
        numbers = {name: str(number) for name, number in self.class_numbers}
        if not numbers or set(self.labels) & set(agreed) or not set(numbers.values()) & set(agreed):
            return self
        return replace(self, labels=tuple(numbers.get(label, label) for label in self.labels), class_numbers=())


def read_rows(path: str | Path, *, text: Sequence[str], label: str, cache: Path | None = None) -> Rows:
    """Read the `text` columns (one, or two for pair tasks) and the `label` column.

    `path` is a local CSV, TSV, JSON, JSONL, Parquet or Arrow file, or else a local folder or hub id, whose files the
    `datasets` library finds (see `hub_tables`) and caches under `cache`. Labels become strings: 0, 0.0 and False are
    all "0", and so is what CSV and TSV, which know no types, spell 0.0; a word such as "false" stays one there. Where
    the data name their classes, a class number becomes its name.
    Raises DataError naming the file, the column and the row for whatever cannot be read.
    """
    if len(text) not in (1, 2):
        raise DataError(f"expected one text column, or two for pair tasks, got {len(text)}")
    source = str(path)
    return rows_of(_tables(source, (*text, label), cache), text=text, label=label, source=source)


def rows_of(tables: Iterable[Table], *, text: Sequence[str], label: str, source: str) -> Rows:
    """Return the rows of all tables; their cells are those of the `text` columns and, last, that of `label`.

    `source` names all of them in messages. Raises DataError as `read_rows`.
    """
    texts: list[tuple[str, ...]] = []
    labels: list[str] = []
    numbers: set[tuple[str, int]] = set()
    for table in tables:
        for number, row in enumerate(table.cells, start=1):
            where = f"{table.source}: row {number}"
            texts.append(tuple(_text(where, column, cell) for column, cell in zip(text, row[:-1], strict=True)))
            labels.append(_label(where, label, row[-1], typed=table.typed))
            if isinstance(row[-1], ClassNumber):
                numbers.add((labels[-1], row[-1].number))
    if not labels:
        raise DataError(f"{source}: no data row; expected at least one below the header")
    return Rows(texts=tuple(texts), labels=tuple(labels), source=source, class_numbers=tuple(sorted(numbers)))


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

    Raises DataError naming the first row whose label is not in the list, and how many such rows there are.
    """
    rows = rows.under(labels)
    ids = {label: position for position, label in enumerate(labels)}
    strange = [index for index, label in enumerate(rows.labels) if label not in ids]
    if strange:
        counts = Counter(rows.labels[index] for index in strange)
        raise DataError(
            f"{rows.source or 'data'}: row {strange[0] + 1} has label {rows.labels[strange[0]]!r}, which is not in "
            f"the agreed list [{', '.join(labels)}] ({len(strange)} such rows, {len(counts)} such labels); "
            "drop these rows or add the label to [data] labels"
        )
    return np.array([ids[label] for label in rows.labels], dtype=np.int64)


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


def _text(where: str, column: str, cell: Any) -> str:
    if cell is not None and not isinstance(cell, str):
        raise DataError(f"{where}: column {column!r} holds {type(cell).__name__}, expected text")
    if cell is None or not cell.strip():
        raise DataError(f"{where}: column {column!r} is empty; fill it or drop the row")
    _check_whole(where, column, cell)
    return cell


def _label(where: str, column: str, cell: Any, *, typed: bool) -> str:
    if isinstance(cell, ClassNumber):
        cell = cell.name
    if not typed and isinstance(cell, str) and _WHOLE_FLOAT.fullmatch(cell.strip()):
        cell = int(cell.strip().partition(".")[0])
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    if isinstance(cell, bool):
        cell = int(cell)
    if isinstance(cell, float) and cell != cell:  # NaN is how Parquet writers store a missing number
        cell = None
    if cell is not None and not isinstance(cell, str | int | float):
        raise DataError(f"{where}: label column {column!r} holds {type(cell).__name__}, expected text or a number")
    name = "" if cell is None else str(cell).strip()
    if not name:
        raise DataError(f"{where}: label column {column!r} is empty; fill it or drop the row")
    _check_whole(where, column, name)
    return name


def _check_whole(where: str, column: str, text: str) -> None:
    """Refuse what no tokenizer and no hash can take: half of a character, as cutting text in JavaScript leaves."""
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise DataError(
            f"{where}: column {column!r} holds half of a surrogate pair at character {cause.start + 1}; "
            "take it out or drop the row"
        ) from None


def _position(texts: tuple[str, ...]) -> float:
    """Where a row lies on [0, 1): the first 53 bits of the sha256 of its texts, exact as a float."""
    digest = hashlib.sha256("\x1f".join(texts).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _whole(label: str) -> bool:
    return label.isascii() and label.removeprefix("-").isdigit() and len(label) <= MOST_DIGITS
