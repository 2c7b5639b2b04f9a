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

from fedcore.client.data.in_memory.dialogues import WrittenRows, listed, written_in_memory
from fedcore.client.data.in_memory.tables import rows_in_memory
from fedcore.client.data.rows import Rows
from fedcore.core.config.tables import Config, DataConfig
from fedcore.core.data.partition import column_of
from fedcore.core.errors import DataError
from fedcore.core.tasks.generation import GENERATION
from fedcore.core.tasks.table import AUTO, task_named
from fedcore.storage.atomic import write_atomic
from fedcore.storage.models.fetch import rooted

Given = Rows | WrittenRows | str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunData:
    """Where the rows of a run come from: rows in memory, or what `[data] train` and `[data] test` say."""

    train: Given
    test: Given

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
                    file = str(_file(Path(folder), name))
                    message = message.replace(f"{file}: line ", f"{name}: row ").replace(file, name)
                raise DataError(message) from None

    def _written(self, data: DataConfig, folder: Path, name: str, rows: Given) -> str:
        if isinstance(rows, str):
            return rows
        folder.mkdir(parents=True, exist_ok=True)
        file = _file(folder, name)
        lines = _rows_by_column(data, rows) if isinstance(rows, Rows) else rows
        write_atomic(file, (json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines))
        return str(file)


def run_data(config: Config, *, train: Any, test: Any) -> RunData:
    """Return what a caller handed over: None is what [data] says, text or a path what it names, else a table in memory.

    Raises DataError for a table that cannot be used.
    """
    return RunData(
        train=_source(config, train, "train", config.data.train),
        test=_source(config, test, "test", config.data.test),
    )


def _source(config: Config, given: Any, name: str, configured: str) -> Given:
    if given is None:
        return configured
    if isinstance(given, str | PathLike):
        return rooted(fspath(given))
    data, by = config.data, column_of(config.data.partition) if name == "train" else ""
    given = listed(given)
    return _written_rows(config, given, by, name) or rows_in_memory(
        given, text=data.text_columns, label=data.label, by=by, source=name
    )


def _written_rows(config: Config, given: Any, by: str, name: str) -> WrittenRows | None:
    """Return rows for a model that writes; None where the run is none of such a model."""
    data, auto = config.data, config.task.kind == AUTO
    usual = (data.text_columns, data.label) == (DataConfig().text_columns, DataConfig().label)
    if auto and (data.labels or not usual):
        return None
    task = GENERATION if auto else task_named(config.task.kind)
    if not task.forms:
        return None
    named = None if usual else (data.text_columns[0], data.label)
    return written_in_memory(given, task, named=named, by=by, source=name, certain=not auto)


def _file(folder: Path, name: str) -> Path:
    return folder.resolve() / f"{name}.jsonl"


def _rows_by_column(data: DataConfig, rows: Rows) -> Iterator[dict[str, str]]:
    column = column_of(data.partition)
    for place, (texts, label) in enumerate(zip(rows.texts, rows.labels, strict=True)):
        row = dict(zip((*data.text_columns, data.label), (*texts, label), strict=True))
        yield {column: rows.groups[place], **row} if rows.groups else row
