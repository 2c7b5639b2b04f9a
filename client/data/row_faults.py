"""All that is wrong with the rows of a table, told in one message: each fault with its rows, and what to do."""

from dataclasses import dataclass, field

from fedcore.core.errors import DataError

SHOWN = 4  # rows of one fault that are named
MOST_FAULTS = 8  # faults that are told


@dataclass(slots=True)
class _Fault:
    """One fault: how many rows have it, and the first of them as lines of the file, or as rows where it has none."""

    rows: int = 0
    lines: bool = True
    first: list[int] = field(default_factory=list)

    def where(self) -> str:
        """Return "line 7", or "12 rows (lines 3, 4, 7, 9 and 8 more)"."""
        if self.rows == 1:
            return f"{'line' if self.lines else 'row'} {self.first[0]}"
        named = ", ".join(map(str, self.first))
        more = f" and {self.rows - len(self.first):,} more" if self.rows > len(self.first) else ""
        return f"{self.rows:,} rows ({'lines' if self.lines else 'rows'} {named}{more})"


@dataclass(slots=True)
class RowFaults:
    """The faults found so far in rows that may come from several files."""

    _faults: dict[tuple[str, str], _Fault] = field(default_factory=dict)  # by source and words

    def add(self, source: str, fault: str, *, line: int, row: int) -> None:
        """Count a fault of one row; `line` is 0 where its file has no lines, `row` counts its data rows from 1."""
        found = self._faults.setdefault((source, fault), _Fault())
        found.rows += 1
        found.lines = found.lines and line > 0
        if len(found.first) < SHOWN:
            found.first.append(line or row)

    def check(self) -> None:
        """Raise DataError with every fault; the first MOST_FAULTS where there are more."""
        if not self._faults:
            return
        told = [f"{source}: {fault.where()}: {words}" for (source, words), fault in self._faults.items()]
        if len(told) > MOST_FAULTS:
            told = [*told[:MOST_FAULTS], f"{len(told) - MOST_FAULTS} more kinds of fault"]
        raise DataError("\n  ".join(told if len(told) == 1 else ["rows that cannot be used:", *told]))
