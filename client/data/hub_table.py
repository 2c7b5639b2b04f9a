"""Read chosen columns of a folder of files or a hub id through the `datasets` library."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedcore.client.data.table_file import READERS, Cells, check_columns
from fedcore.core.errors import DataError
from fedcore.storage.process.quiet import silence_telemetry

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+){0,2}")


def hub_columns(source: str, columns: Sequence[str], cache: Path | None) -> Iterator[Cells]:
    """Yield one tuple of raw cells per row, in the order of `columns`.

    A hub id may name its split, or its configuration and split: "imdb:test", "nyu-mll/glue:sst2:validation"; the
    split is "train" otherwise. The library is imported here, on first need, with its telemetry off.
    Raises DataError when `source` is neither a folder nor a readable hub id, and for a missing column.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir() and (folder.suffix.lower() in READERS or not _HUB_ID.fullmatch(source)):
        raise DataError(f"{source}: no such file; expected a CSV, TSV, JSONL or Parquet file, a folder, or a hub id")
    silence_telemetry()
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{source}: reading a folder or hub id needs the client extra: pip install 'fedcore[client]'"
        ) from None
    name, *rest = [str(folder)] if folder.is_dir() else source.split(":")
    split = rest[-1] if rest else "train"
    configuration = rest[0] if len(rest) == 2 else None
    try:
        table = datasets.load_dataset(name, configuration, split=split, cache_dir=str(cache) if cache else None)
    except Exception as cause:  # the library raises whatever its loaders and network clients raise
        kind = (
            "the folder cannot be read" if folder.is_dir() else "neither a local file or folder nor a readable hub id"
        )
        raise DataError(f"{source}: {kind}: {_first_line(cause)}") from None
    check_columns(source, columns, table.column_names)
    return (tuple(row[column] for column in columns) for row in table.select_columns(list(columns)))


def _first_line(cause: Exception) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
