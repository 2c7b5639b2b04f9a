"""Check one by one what a machine needs to run fedcore."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from fedcore.core.errors import ConfigError
from fedcore.storage.models.cache import cache_folder
from fedcore.storage.process.free_port import check_free

NEEDED = ("numpy", "grpcio", "protobuf", "safetensors", "cryptography", "typer", "rich", "zstandard")
CLIENT = ("torch", "transformers", "peft", "datasets", "pyarrow")
LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, whether it passed, and what it found or what to do."""

    check: str
    ok: bool
    detail: str


def examine(listen: str) -> list[Finding]:
    """Return every finding about this machine; `listen` is the HOST:PORT of a future coordinator."""
    return list(_findings(listen))


def _findings(listen: str) -> Iterator[Finding]:
    version = sys.version.split()[0]
    enough = sys.version_info >= (3, 11)
    yield Finding("python", enough, version if enough else f"{version}; 3.11 or newer is needed")
    yield _packages("coordinator packages", NEEDED, "pip install .")
    # A machine that only coordinates needs no torch: report that it is missing, but not as a fault.
    client = _packages("device packages", CLIENT, "pip install '.[client]'")
    yield client if client.ok else Finding(client.check, True, f"{client.detail} (needed on devices only)")
    yield Finding("cores", True, str(os.cpu_count()))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Finding("memory", True, f"{memory / 2**30:.1f} GiB")
    yield _cache()
    yield _port(listen)


def _packages(check: str, names: tuple[str, ...], remedy: str) -> Finding:
    versions, missing = [], []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(check, False, f"missing {', '.join(missing)}; run: {remedy}")
    return Finding(check, True, ", ".join(versions))


def _cache() -> Finding:
    try:
        folder = cache_folder()
    except ConfigError as error:
        return Finding("cache", False, str(error))
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / 2**30:.1f} GiB free"
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return Finding("cache", False, f"{detail}; cannot write there: set FEDCORE_CACHE to another folder")
    if free < LEAST_FREE_BYTES:
        return Finding("cache", False, f"{detail}; 1 GiB is needed: free some, or set FEDCORE_CACHE to another folder")
    return Finding("cache", True, detail)


def _port(listen: str) -> Finding:
    try:
        check_free(listen)
        return Finding("port", True, f"{listen} can be listened on")
    except (OSError, OverflowError, ValueError) as cause:
        return Finding("port", False, f"{listen}: {cause}; choose another with --set coordinator.listen=HOST:PORT")
