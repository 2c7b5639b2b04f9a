"""Small files that are either the old version or the new one, never half of it."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

Buffer = bytes | memoryview


def write_atomic(
    path: Path, data: bytes | str | Iterable[Buffer], *, mode: int | None = None, durable: bool = False
) -> None:
    """Replace `path` by `data` (text as UTF-8, or chunks one after the other) in one step; its folder must exist.

    A reader sees the old file or the whole new one, even after this process crashes; `durable` extends that to a
    power cut. `mode` is exact; without it the file has the mode that the umask gives every new file. Raises OSError as
    the file system does, and whatever `data` raises while it yields chunks; neither leaves a temporary file behind.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode)
    try:
        with name_file_in_errors(path), os.fdopen(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)  # the umask has restricted the mode at open
            for chunk in (data,) if isinstance(data, bytes) else (data.encode(),) if isinstance(data, str) else data:
                file.write(chunk)
            file.flush()
            if durable:  # before the rename: else a power cut may leave the new name with empty content
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextmanager
def name_file_in_errors(path: Path) -> Iterator[None]:
    """Add `path` to an OSError that names no file: a write to a full disk does not say which file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a rename survives a power cut only once its folder is synced."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
