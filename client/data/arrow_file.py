"""Read Parquet and Arrow files, which know types and may name the classes of a label column."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fedcore.client.data.table import Row, SourceFile, check_columns, named
from fedcore.core.boundary import reason
from fedcore.core.errors import DataError

_FEATURES = b"huggingface"  # where the `datasets` library keeps what it knows of the columns
_FILE_MAGIC = b"ARROW1"  # of an Arrow file; a stream, which the library writes, has none


def parquet(file: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(file.path) as table:
            check_columns(file.source, columns, table.schema_arrow.names)
            classes = classes_in(table.schema_arrow.metadata)
            yield from named(_rows(table.iter_batches(columns=list(columns)), columns), columns, classes)
    except pyarrow.ArrowException as cause:
        raise DataError(f"{file.source}: not a readable Parquet file: {reason(cause)}") from None


def arrow(file: SourceFile, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of an Arrow file or stream."""
    import pyarrow

    try:
        with pyarrow.OSFile(str(file.path)) as opened:
            magic = opened.read(len(_FILE_MAGIC))
            opened.seek(0)
            whole = magic == _FILE_MAGIC
            table = pyarrow.ipc.open_file(opened) if whole else pyarrow.ipc.open_stream(opened)
            check_columns(file.source, columns, table.schema.names)
            batches = (table.get_batch(number) for number in range(table.num_record_batches)) if whole else table
            yield from named(_rows(batches, columns), columns, classes_in(table.schema.metadata))
    except pyarrow.ArrowException as cause:
        raise DataError(f"{file.source}: not a readable Arrow file: {reason(cause)}") from None


def _rows(batches: Iterable[Any], columns: Sequence[str]) -> Iterator[Row]:
    for batch in batches:
        cells = batch.select(list(columns)).to_pydict()
        yield from map(Row, zip(*(cells[column] for column in columns), strict=True))


def classes_in(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the class names that the `datasets` library left in an Arrow schema's metadata; nothing where it did not.

    What cannot be read there is no fault of the rows: it names no class.
    """
    try:
        features = json.loads((metadata or {})[_FEATURES])["info"]["features"]
        return {column: _names(feature) for column, feature in features.items() if _names(feature)}
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _names(feature: Any) -> tuple[str, ...]:
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return tuple(map(str, names)) if isinstance(names, list) else ()
