"""The run as text files: events.jsonl to replay it, rounds.csv for people, summary.json for programs.

Only the ledger is authoritative. These files are flushed, not fsynced, and after a crash they may hold lines of a round
that was never committed. When a run is resumed, `truncate_after` drops such events, and the table is written again.
"""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fedcore.core.contract.outcome import PHASES
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.server.run.compact_json import compact, indented
from fedcore.storage.atomic import write_atomic

COLUMNS = (
    *("round", "device", "class", "status", "sparsity", "rank", "reward", "weight", "time_s"),
    *(f"{phase}_s" for phase in PHASES),
    *("bytes_down", "bytes_up", "loss_before", "loss_after", "peak_memory_mb"),
    *("wait_s", "fold_s", "overrun_s", "timing", "network", "energy_j", "temperature_c"),
)


_HEADER = dict(zip(COLUMNS, COLUMNS, strict=True))


class EventLog:
    """Appends to events.jsonl, one JSON object per line. Flushes after every call, or, if not eager, in `flush`."""

    def __init__(self, path: Path, *, eager: bool = True) -> None:
        """Open `path` at its end, or create it; a torn last line is cut off."""
        self._file = _open_whole_lines(path)
        self._path = path
        self._eager = eager

    def append(self, t: float, event: str, fields: Mapping[str, Any] | None = None) -> None:
        """Write one event: `t` is wall-clock time in seconds since 1970, `event` its kind.

        Numbers that JSON lacks (NaN, infinity) become null. Raises ValueError if `fields` has a key t or event.
        """
        self.extend(t, ((event, {} if fields is None else fields),))

    def extend(self, t: float, events: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Write events with the same time, given as kind and fields; writes none if one raises, as in `append`."""
        self._file.write(b"".join(_event_line(t, event, fields) for event, fields in events))
        if self._eager:
            self._file.flush()

    def flush(self) -> None:
        """Make everything written so far visible to readers of the file."""
        self._file.flush()

    def truncate_after(self, last_round: int) -> int:
        """Drop events with a `round` above `last_round` and return their number; events without a round stay."""
        self._file.close()
        kept, dropped = [], 0
        for event in read_events(self._path):
            if event.get("round", 0) > last_round:
                dropped += 1
            else:
                kept.append(_line(event))
        if dropped:
            write_atomic(self._path, b"".join(kept))
        self._file = _open_whole_lines(self._path)
        return dropped

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Json]:
    """Iterate over events.jsonl, without a torn last line (after a crash, or during a write).

    Raises RunError, naming the line, if any other line is no JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                event = None
            if not isinstance(event, dict):
                raise RunError(f"{path} line {number}: expected one JSON object per line; mend or delete this line")
            yield event


class RoundTable:
    """Appends to rounds.csv: one row per round and device, columns as in COLUMNS; unknown values stay empty."""

    def __init__(self, path: Path) -> None:
        """Open `path` at its end; write the header into a new file."""
        self._path = path
        self._file = _open_whole_lines(path)
        if self._file.tell() == 0:
            self._write([_HEADER])

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write one round's rows at once, without keys beyond COLUMNS."""
        self._write(rows)

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace the file by a table with `rows`, whatever it holds."""
        self._file.close()
        write_atomic(self._path, map(_csv_line, itertools.chain([_HEADER], rows)))
        self._file = _open_whole_lines(self._path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(_csv(rows))
        self._file.flush()


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Replace summary.json atomically; keys keep their order, NaN and infinity become null."""
    write_atomic(path, indented(summary))


def _open_whole_lines(path: Path) -> BinaryIO:
    """Open at the end of the last complete line, so that a new line never continues a torn one."""
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
    end = file.seek(0, io.SEEK_END)
    while end > 0:
        begin = max(0, end - 65536)
        file.seek(begin)
        newline = file.read(end - begin).rfind(b"\n")
        end = begin + newline + 1
        if newline >= 0:
            break
    file.truncate(end)
    file.seek(end)
    return file


def _event_line(t: float, event: str, fields: Mapping[str, Any]) -> bytes:
    if "t" in fields or "event" in fields:
        raise ValueError(f"event {event}: t and event are arguments, not fields; got {sorted(fields)}")
    return _line({"t": t, "event": event, **fields})


def _line(event: Mapping[str, Any]) -> bytes:
    return compact(event) + b"\n"


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(map(_csv_line, rows))


def _csv_line(row: Mapping[str, Any]) -> bytes:
    """Return one row, made from a JSON list if that gives the same cells: many times faster for so many numbers."""
    values = ["" if value is None else value for value in map(row.get, COLUMNS)]
    line = compact(values)[1:-1]
    if line.count(b",") == len(COLUMNS) - 1 and b"\\" not in line and b"null" not in line:
        return line.replace(b'"', b"") + b"\n"
    text = io.StringIO()  # a cell with a comma, a quotation mark or NaN in it
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
