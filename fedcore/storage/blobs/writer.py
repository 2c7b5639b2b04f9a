"""Writing one blob chunk by chunk: hashed on the way, resumable, published in one rename.

Partials lie in `partial/<hex>`, under a lock of the operating system that dies with its process. A second writer
of the same blob, say on a new stream while the old one has not yet timed out, works on a private copy: both may
commit, the bytes are the same.
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
from fedcore.storage.atomic import naming, sync_folder
from fedcore.storage.blobs.name import blob_path, check_blob_name, make_private_folder, name_of

_CHUNK = 1 << 20


class BlobWriter:
    """An open partial blob. Use from one thread at a time; `close` (or leaving `with`) keeps it for a resume.

    `offset` is how many bytes are there already: the next chunk belongs at this position.
    """

    def __init__(self, root: Path, blob_id: str, size_limit: int, offset: int | None = None) -> None:
        """Open a partial; see `BlobStore.writer`."""
        self._root, self._id, self._limit = root, blob_id, size_limit
        shared = root / "partial" / check_blob_name(blob_id)
        make_private_folder(shared.parent)
        held = _lock(shared)
        self._private = held is None
        self._path = shared.with_name(f"{shared.name}.{secrets.token_hex(8)}") if held is None else shared
        self._file: BinaryIO | None = _open(self._path, exclusive=True) if held is None else held
        self._digest = hashlib.sha256()
        self.offset = 0
        try:
            self._take_over(shared, offset)
        except BaseException:
            self.close()
            raise

    def _take_over(self, shared: Path, offset: int | None) -> None:
        """Hash the bytes that are there up to `offset`, and copy them where this writer is a private one."""
        there = _size(shared)
        wanted = offset if offset is not None else 0 if self._private else there
        if not 0 <= wanted <= there:
            raise ProtocolError(f"{self._id}: upload continues at byte {wanted}, {there} are here; start from there")
        self._check_limit(wanted)
        file = self._opened()
        if wanted:
            for chunk in _head(shared, wanted):
                self._digest.update(chunk)
                if self._private:
                    file.write(chunk)
        file.truncate(wanted)
        file.seek(wanted)
        self.offset = wanted

    def write(self, chunk: bytes | memoryview) -> None:
        """Append `chunk`; raises ProtocolError where the blob grows over its limit (the partial is then deleted)."""
        file = self._opened()
        self._check_limit(self.offset + len(chunk))
        with naming(self._path):
            file.write(chunk)
        self._digest.update(chunk)
        self.offset += len(chunk)

    def commit(self, durable: bool = False) -> str:
        """Publish the blob under its name and return it.

        Raises BlobCorrupt where the bytes have another hash; the partial is then deleted, for no resume can mend it.
        """
        file = self._opened()
        found = name_of(self._digest)
        if found != self._id:
            self.discard()
            raise BlobCorrupt(
                f"expected {self._id}, the {self.offset} bytes received are {found}; send the blob again from byte 0"
            )
        file.flush()
        if durable:
            os.fsync(file.fileno())
        publish(self._path, blob_path(self._root, self._id), durable=durable)
        self._shut()
        return self._id

    def discard(self) -> None:
        """Delete the partial and close."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)  # before the lock goes: nobody may have taken it over yet
            self._shut()

    def close(self) -> None:
        """Close and keep what arrived for a resume; a private copy goes. Does nothing after a commit."""
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
    """Rename a finished file to its place in the store."""
    make_private_folder(path.parent.parent)
    make_private_folder(path.parent)
    temporary.replace(path)
    if durable:
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
            sync_folder(folder)


def delete_unlocked(partial: Path) -> bool:
    """Delete a partial that no writer holds; return whether it is gone."""
    file = _lock(partial, create=False)
    if file is None:
        return not partial.exists()
    with file:
        partial.unlink(missing_ok=True)
    return True


def _lock(path: Path, create: bool = True) -> BinaryIO | None:
    """Open `path` for writing under an exclusive lock; None where somebody else holds it (or it is not there)."""
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
        # Between open and lock its holder may have published or deleted the file: then the lock is on another's bytes.
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether `path` still names the open file; asked in one call, for it may be gone between two."""
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
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def _head(path: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes; raises ProtocolError where the file ends before."""
    left = size
    with path.open("rb") as file:
        while left:
            chunk = file.read(min(left, _CHUNK))
            if not chunk:
                raise ProtocolError(f"a partial upload shrank while it was read, {left} bytes are missing; start again")
            left -= len(chunk)
            yield chunk
