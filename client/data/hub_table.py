"""Read chosen columns of a folder or a hub id: the `datasets` library finds the files, our own readers read them.

The library's readers guess types: "01" and "1" become one label, "true" becomes 1, "NA" nothing. So they are used only
for a data set that has no files of a kind that is read here.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fedcore.client.data.table import Row, SourceFile, Table, check_columns, named
from fedcore.client.data.table_file import file_table, table_suffix
from fedcore.core.boundary import Boundary
from fedcore.core.errors import DataError
from fedcore.storage.process.quiet import silence_telemetry

SPLIT = "train"  # whose rows are read where none is named

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?(:[\w.-]+){0,2}")
_SAVED = ("dataset_dict.json", "state.json")  # of the library's save_to_disk: of several splits, of one
# What a data set may say of its files that our readers either know by themselves or take account of.
_TAKEN = ("name", "version", "data_dir", "data_files", "description", "features", "sep")

Classes = Mapping[str, Sequence[str]]  # names of a column's classes, by column


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A folder or hub id as its user wrote it, and its parts."""

    spec: str
    name: str
    configuration: str | None = None
    split: str = SPLIT


def hub_tables(spec: str, columns: Sequence[str], cache: Path | None) -> Iterator[Table]:
    """Yield a table per file of a folder or hub id; one in all for a data set that is no such files.

    A hub id may name its split, or its configuration and split: "imdb:test", "nyu-mll/glue:sst2:validation"; the
    split is "train" otherwise. A folder that `save_to_disk` of the `datasets` library wrote is read as the data set it
    is. The library is imported here, on first need, with its telemetry off; it caches under `cache`.
    Raises DataError when `spec` is neither a folder nor a readable hub id, and for a missing column.
    """
    folder = Path(spec)
    if not folder.is_dir() and (table_suffix(spec) is not None or not _HUB_ID.fullmatch(spec)):
        raise DataError(f"{spec}: no such file; expected a CSV, TSV, JSONL or Parquet file, a folder, or a hub id")
    what = "the folder cannot be read" if folder.is_dir() else "neither a local file or folder nor a readable hub id"
    with Boundary(DataError, f"{spec}: {what}"):
        library = _library(spec)
        if any((folder / name).is_file() for name in _SAVED):
            yield _library_table(spec, _saved(library, folder), columns)
            return
        source = _Source(spec=spec, name=str(folder)) if folder.is_dir() else _parts(spec)
        builder = library.load_dataset_builder(source.name, source.configuration, cache_dir=_text(cache))
        if _is_read_here(builder.config, source.split):
            yield from _file_tables(library, builder, source, columns, cache)
        else:
            whole = library.load_dataset(source.name, source.configuration, split=source.split, cache_dir=_text(cache))
            yield _library_table(spec, whole, columns)


def _library(spec: str) -> ModuleType:
    silence_telemetry()
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"{spec}: reading a folder or hub id needs the client extra: pip install 'fedcore[client]'"
        ) from None
    library: ModuleType = datasets
    return library


def _parts(spec: str) -> _Source:
    name, *rest = spec.split(":")
    return _Source(
        spec=spec,
        name=name,
        configuration=rest[0] if len(rest) == 2 else None,
        split=rest[-1] if rest else SPLIT,
    )


def _text(cache: Path | None) -> str | None:
    return None if cache is None else str(cache)


def _saved(library: ModuleType, folder: Path) -> Any:
    """What `save_to_disk` wrote: the split "train" of several, or the only one."""
    saved = library.load_from_disk(str(folder))
    if not isinstance(saved, dict):
        return saved
    split = next(iter(saved)) if len(saved) == 1 else SPLIT
    if split not in saved:
        splits = ", ".join(map(str, saved))
        raise DataError(f"{folder}: no split {SPLIT!r} among {splits}; give the folder of one, {folder / min(saved)}")
    return saved[split]


def _is_read_here(config: Any, split: str) -> bool:
    """Whether a split is files of kinds that are read here, and nothing is said of them that is not known here."""
    files = (config.data_files or {}).get(split, ())
    usual = type(config)()
    told = (field.name for field in dataclasses.fields(config) if field.name not in _TAKEN)
    return (
        bool(files)
        and all(table_suffix(str(file)) is not None for file in files)
        and all(getattr(config, name) == getattr(usual, name) for name in told)
        and len(getattr(config, "sep", ",")) == 1
    )


def _file_tables(
    library: ModuleType, builder: Any, source: _Source, columns: Sequence[str], cache: Path | None
) -> Iterator[Table]:
    """Bring the files of one split, where they are not here, and read them one after the other."""
    names = [str(file) for file in builder.config.data_files[source.split]]
    place = library.DownloadConfig(cache_dir=_text(cache and cache / "downloads"))
    paths = library.DownloadManager(dataset_name=builder.dataset_name, download_config=place).download(names)
    classes = _classes(builder.info.features)
    for name, path in zip(names, paths, strict=True):
        known = str(path) if str(path) == name else f"{source.spec}: {Path(name).name}"
        file = SourceFile(path=Path(path), name=Path(name).name, source=known)
        table = file_table(file, columns, separator=getattr(builder.config, "sep", ","))
        yield dataclasses.replace(table, rows=named(table.rows, columns, classes))


def _library_table(spec: str, whole: Any, columns: Sequence[str]) -> Table:
    check_columns(spec, columns, whole.column_names)
    chosen = whole.select_columns(list(columns)).with_format(None)  # whatever format was saved with it
    rows = _told(spec, (Row(tuple(row[column] for column in columns)) for row in chosen))
    return Table(source=spec, typed=True, rows=named(rows, columns, _classes(whole.features)))


def _told(spec: str, rows: Iterator[Row]) -> Iterator[Row]:
    with Boundary(DataError, f"{spec}: cannot be read"):
        yield from rows


def _classes(features: Mapping[str, Any] | None) -> Classes:
    """Class names by column, as far as a data set tells them."""
    found = {column: getattr(feature, "names", None) for column, feature in (features or {}).items()}
    return {column: names for column, names in found.items() if isinstance(names, list)}
