"""What every reader of rows takes and gives: a file by the names it has, chosen columns row by row."""

import bz2
import difflib
import gzip
import lzma
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from fedcore.core.errors import DataError

Cells = tuple[Any, ...]

MOST_NAMES = 20  # columns that a message names
NAMING = " (data.text and data.label, or --text and --label, say which to read)"

COMPRESSED: dict[str, Callable[..., IO[Any]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to read: where it lies, what it is called (elsewhere, in a download cache), and how messages name it."""

    path: Path
    name: str
    source: str

    def text(self, *, newline: str) -> IO[str]:
        """Open as UTF-8 text, with or without a byte order mark, unpacked where it is compressed."""
        return self._opened("rt", encoding="utf-8-sig", newline=newline)

    def bytes(self) -> IO[bytes]:
        """Open as bytes, unpacked where it is compressed."""
        return self._opened("rb")

    def _opened(self, mode: str, **text: str) -> IO[Any]:
        opener: Callable[..., IO[Any]] = COMPRESSED.get(Path(self.name).suffix.lower(), open)
        return opener(self.path, mode, **text)


class Row(NamedTuple):
    """One data row: its raw cells in the order of the chosen columns, or why it has none.

    `line` is the line that the row begins on, as an editor counts: from 1, the header and blank lines too. It is 0 in a
    file without lines.
    """

    cells: Cells
    line: int = 0
    fault: str = ""  # what is wrong and what to do; empty where there are cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one file, or of one split of a data set, in their order.

    `typed` is False where the format knows text alone, as CSV does: there a number is known by its spelling.
    """

    source: str  # for messages
    typed: bool
    rows: Iterator[Row]


@dataclass(frozen=True, slots=True)
class ClassNumber:
    """A cell of a column whose data name its classes: the number that is stored there, and the class's name."""

    number: int
    name: str


def class_cell(cell: Any, names: Sequence[str]) -> Any:
    """Return a cell of a column whose data name its classes: the class, None for -1 ("no label"), else the cell.

    `names[i]` is the name of class i. A format without types spells the number.
    """
    number = int(cell) if isinstance(cell, str) and cell.strip().removeprefix("-").isdecimal() else cell
    if isinstance(number, bool) or not isinstance(number, int):
        return cell
    if number == -1:
        return None
    return ClassNumber(number, names[number]) if 0 <= number < len(names) else cell


def named(rows: Iterator[Row], columns: Sequence[str], classes: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    """Return `rows` with classes in place of their numbers in the columns that `classes` has names for."""
    names = [classes.get(column, ()) for column in columns]
    if not any(names):
        return rows
    return (row if row.fault else row._replace(cells=_with_classes(row.cells, names)) for row in rows)


def _with_classes(cells: Cells, names: Sequence[Sequence[str]]) -> Cells:
    return tuple(class_cell(cell, known) if known else cell for cell, known in zip(cells, names, strict=True))


def check_columns(source: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Raise DataError unless `source` has each of `wanted` once; names the nearest column and those that exist."""
    missing = next((column for column in wanted if column not in found), None)
    if missing is not None:
        near = _nearest(missing, found)
        hint = f"did you mean {near!r}? " if near else ""
        raise DataError(f"{source}: no column {missing!r}; {hint}columns: {_listed(found)}{NAMING}")
    twice = next((column for column in wanted if list(found).count(column) > 1), None)
    if twice is not None:
        raise DataError(f"{source}: {list(found).count(twice)} columns are called {twice!r}; rename all but one")


def _nearest(wanted: str, found: Sequence[str]) -> str | None:
    """Return the column whose name is most like `wanted`, without regard to case; None where none is."""
    spelt = {column.casefold(): column for column in reversed(found)}
    near = difflib.get_close_matches(wanted.casefold(), spelt, n=1, cutoff=0.5)
    return spelt[near[0]] if near else None


def _listed(found: Sequence[str]) -> str:
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return (", ".join(found[:MOST_NAMES]) or "none") + more
