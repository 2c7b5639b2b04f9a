"""Rows that a caller hands over: a path goes into the configuration, rows in memory into a file of the run folder.

A run can then be shown, resumed and repeated by the command as any other, and a fleet's processes read what they need.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from fedcore.client.data.in_memory import rows_in_memory
from fedcore.client.data.rows import Rows
from fedcore.core.config.tables import Config, DataConfig
from fedcore.core.data.partition import column_of
from fedcore.core.errors import DataError
from fedcore.storage.atomic import write_atomic
from fedcore.storage.models.fetch import rooted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Where the rows of a run come from: rows in memory, or what `[data] train` and `[data] test` say."""

    train: Rows | str
    test: Rows | str

    def write(self, config: Config, folder: Path) -> Config:
        """Write rows in memory as JSONL files into `folder`, and return the configuration that names them."""
        train = self._written(config.data, folder, "train", self.train)
        test = self._written(config.data, folder, "test", self.test)
        return replace(config, data=replace(config.data, train=train, test=test))

    @contextmanager
    def readable(self, config: Config) -> Iterator[Config]:
        """Yield a configuration that reads the rows until the block ends, for checks before there is a run folder.

        A DataError inside that names such a file names the argument instead.
        """
        with tempfile.TemporaryDirectory(prefix="fedcore-") as folder:
            try:
                yield self.write(config, Path(folder))
            except DataError as error:
                message = str(error)
                for name in ("train", "test"):
                    message = message.replace(str(_file(Path(folder), name)), name)
                raise DataError(message) from None

    def _written(self, data: DataConfig, folder: Path, name: str, rows: Rows | str) -> str:
        if isinstance(rows, str):
            return rows
        folder.mkdir(parents=True, exist_ok=True)
        file = _file(folder, name)
        write_atomic(file, _json_lines(data, rows))
        return str(file)


def run_data(config: Config, *, train: Any, test: Any) -> RunData:
    """Return what a caller handed over: None is what [data] says, text or a path what it names, else a table in memory.

    Raises DataError for a table that cannot be used.
    """
    return RunData(
        train=_source(config.data, train, "train", config.data.train),
        test=_source(config.data, test, "test", config.data.test),
    )


def _source(data: DataConfig, given: Any, name: str, configured: str) -> Rows | str:
    if given is None:
        return configured
    if isinstance(given, str | PathLike):
        return rooted(fspath(given))
    by = column_of(data.partition) if name == "train" else ""
    return rows_in_memory(given, text=data.text_columns, label=data.label, by=by, source=name)


def _file(folder: Path, name: str) -> Path:
    return folder.resolve() / f"{name}.jsonl"


def _json_lines(data: DataConfig, rows: Rows) -> Iterator[bytes]:
    column = column_of(data.partition)
    for place, (texts, label) in enumerate(zip(rows.texts, rows.labels, strict=True)):
        row = dict(zip((*data.text_columns, data.label), (*texts, label), strict=True))
        if rows.groups:
            row = {column: rows.groups[place], **row}
        yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
