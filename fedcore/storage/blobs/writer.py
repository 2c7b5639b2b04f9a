"""Write one blob chunk by chunk: hashed while it is written, resumable, published by one rename.

A partial lies in `partial/<hex>` under a lock that the operating system drops when the process dies. A second writer
of the same blob works on a private copy, for example while the stream of the first has not yet timed out. Both may
commit: the bytes are the same.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.storage.atomic import name_file_in_errors, sync_folder
from fedcore.storage.blobs.name import blob_path, check_blob_name, make_private_folder, name_of

_CHUNK = 1 << 20


class BlobWriter:
    """An open partial blob, for one thread at a time; `close` (or leaving `with`) keeps it for a resume.

    `offset` is the number of bytes written so far: the next chunk belongs at this position.
    """

    def __init__(self, root: Path, blob_id: str, size_limit: int, offset: int | None = None) -> None:
        """Open a partial; see `BlobStore.writer`."""
        self._root, self._id, self._limit = root, blob_id, size_limit
        shared = root / "partial" / check_blob_name(blob_id)
        make_private_folder(shared.parent)
        locked_file = _lock(shared)
        self._private = locked_file is None
        self._path = shared.with_name(f"{shared.name}.{secrets.token_hex(8)}") if locked_file is None else shared
        self._file: BinaryIO | None = _open(self._path, exclusive=True) if locked_file is None else locked_file
        self._digest = hashlib.sha256()
        self.offset = 0
        try:
            self._take_over(shared, offset)
        except BaseException:
            self.close()
            raise

    def _take_over(self, shared: Path, offset: int | None) -> None:
        """Hash the shared partial's bytes before `offset`; a private writer copies them too."""
        size = _size(shared)
        start = offset if offset is not None else 0 if self._private else size
        if not 0 <= start <= size:
            raise ProtocolError(f"{self._id}: upload continues at byte {start}, {size} are here; start from there")
        self._check_limit(start)
        file = self._opened()
        if start:
            for chunk in _head(shared, start):
                self._digest.update(chunk)
                if self._private:
                    file.write(chunk)
        file.truncate(start)
        file.seek(start)
        self.offset = start

    def write(self, chunk: bytes | memoryview) -> None:
        """Append `chunk`; raises ProtocolError, and deletes the partial, where the blob grows over its limit."""
        file = self._opened()
        self._check_limit(self.offset + len(chunk))
        with name_file_in_errors(self._path):
            file.write(chunk)
        self._digest.update(chunk)
        self.offset += len(chunk)

    def commit(self, durable: bool = False) -> str:
        """Publish the blob under its name and return it.

        Raises BlobCorrupt, and deletes the partial, where the bytes have another hash: no resume could repair them.
        """
        file = self._opened()
        actual_id = name_of(self._digest)
        if actual_id != self._id:
            self.discard()
            raise BlobCorrupt(
                f"expected {self._id}, the {self.offset} bytes received are {actual_id}; "
                "send the blob again from byte 0"
            )
        file.flush()
        if durable:  # before the rename: else a power cut may leave the name with empty content
            os.fsync(file.fileno())
        publish(self._path, blob_path(self._root, self._id), durable=durable)
        self._shut()
        return self._id

    def discard(self) -> None:
        """Delete the partial and close."""
        if self._file is not None:
            self._path.unlink(
                missing_ok=True
            )  # before the lock is released: else another writer may own the file by now
            self._shut()

    def close(self) -> None:
        """Close, and keep the bytes for a resume; a private copy is deleted. Does nothing after a commit."""
        if self._private:
            self.discard()
        self._shut()

    def __enter__(self) -> "BlobWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ProtocolError(f"{self._id}: this upload is closed; open a new one")
        return self._file

    def _check_limit(self, size: int) -> None:
        if size > self._limit:
            self.discard()
            raise ProtocolError(f"{self._id}: expected at most {self._limit} bytes, got {size} or more")

    def _shut(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def publish(temporary: Path, path: Path, *, durable: bool) -> None:
    """Rename a finished file to its name in the store; `durable` makes the name survive a power cut."""
    make_private_folder(path.parent.parent)
    make_private_folder(path.parent)
    temporary.replace(path)
    if durable:  # innermost first: a folder that is durable then never lacks the file inside it
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
            sync_folder(folder)


def delete_unlocked(partial: Path) -> bool:
    """Delete a partial that no writer has open; return whether it is gone."""
    file = _lock(partial, create=False)
    if file is None:
        return not partial.exists()
    with file:
        partial.unlink(missing_ok=True)
    return True


def _lock(path: Path, create: bool = True) -> BinaryIO | None:
    """Open `path` for writing under an exclusive lock; None where another writer holds the lock or it is missing."""
    while True:
        try:
            file = _open(path, create=create)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        # Between open and lock, the previous holder may have published or deleted the file. The lock then protects a
        # file that no longer has this name: try again.
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Return whether `path` still names the open file; a path deleted meanwhile does not."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _open(path: Path, *, create: bool = True, exclusive: bool = False) -> BinaryIO:
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | (os.O_EXCL if exclusive else 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b")


def _head(path: Path, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes; raises ProtocolError where the file is shorter."""
    missing = size
    with path.open("rb") as file:
        while missing:
            chunk = file.read(min(missing, _CHUNK))
            if not chunk:
                raise ProtocolError(
                    f"a partial upload shrank while it was read, {missing} bytes are missing; start again"
                )
            missing -= len(chunk)
            yield chunk
