"""A content-addressed store: files named by the sha256 of their bytes, written once, never changed.

    root/sha256/ab/cdef...   whole blobs (in folders of mode 0700)
    root/partial/            interrupted uploads that may continue, and files that are still being written

A file gets its name under `sha256/` by a rename alone, after its hash was checked: every file there is whole, even
after kill -9. A power cut may still damage blobs that were not stored durably; `read_bytes` and every receiver check.
"""

import hashlib
import mmap
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from fedcore.core.errors import BlobCorrupt, ProtocolError
from fedcore.storage.atomic import name_file_in_errors
from fedcore.storage.blobs.name import blob_name, blob_path, check_blob_name, make_private_folder, name_of
from fedcore.storage.blobs.writer import BlobWriter, delete_unlocked, publish

CHUNK_BYTES = 1 << 20
Buffer = bytes | memoryview


class BlobStore:
    """The blobs of one run folder, state folder or cache. Safe for several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        """Open the store in folder `root`; creates the folder unless it exists."""
        self._root = root
        self._aliases: dict[str, Path] = {}
        make_private_folder(root)

    def has(self, blob_id: str) -> bool:
        """Return whether the whole blob is here; raises ProtocolError where `blob_id` is no blob name."""
        return self._find(blob_id) is not None

    def path(self, blob_id: str) -> Path:
        """Return a blob's file, for reading only; raises ProtocolError where it is not here."""
        path = self._find(blob_id)
        if path is None:
            raise _missing(blob_id)
        return path

    def size(self, blob_id: str) -> int:
        """Return a blob's size in bytes; raises ProtocolError where it is not here."""
        return self.path(blob_id).stat().st_size

    def names(self) -> set[str]:
        """Return the names of all blobs here, whole or partial; aliases are not counted."""
        whole = {f"sha256:{path.parent.name}{path.name}" for path in (self._root / "sha256").glob("??/*")}
        partial = {f"sha256:{path.name}" for path in (self._root / "partial").glob("?" * 64)}
        return whole | partial

    def put_bytes(self, data: bytes, durable: bool = False) -> str:
        """Store `data` and return its name; `durable` makes it survive a power cut.

        A blob that is here already is not written again unless `durable`: it may have been stored without.
        """
        blob_id = blob_name(data)
        if durable or not self.has(blob_id):
            view = memoryview(data)
            self._put((view[low : low + CHUNK_BYTES] for low in range(0, len(view), CHUNK_BYTES)), durable, blob_id)
        return blob_id

    def put_chunks(self, chunks: Iterable[Buffer], durable: bool = False) -> str:
        """Store the bytes of `chunks` one after the other, hash them meanwhile, and return the blob's name.

        For blobs too large to hold in memory. Raises what `chunks` raises, and then stores nothing.
        """
        return self._put(chunks, durable)

    def alias(self, blob_id: str, path: Path) -> None:
        """Serve the existing file `path` as `blob_id`, without a copy, as long as this object lives.

        The caller has hashed the file. The alias is not written to disk: no run folder depends on a file outside it.
        """
        check_blob_name(blob_id)
        self._aliases[blob_id] = path

    def writer(self, blob_id: str, size_limit: int, offset: int | None = None) -> BlobWriter:
        """Open a blob for writing, `size_limit` bytes at most.

        The sender continues at byte `offset`; None continues where the last partial ended (see `BlobWriter.offset`).
        The partial's bytes beyond `offset` are dropped, and those before it are hashed again. While another writer of
        the same blob is open, this writer works on a private copy, and None starts that copy at byte 0. Raises
        ProtocolError on a bad name, an offset that leaves a gap, and an offset over the limit.
        """
        return BlobWriter(self._root, blob_id, size_limit, offset)

    def partial_size(self, blob_id: str) -> int:
        """Return how many bytes an interrupted upload left, 0 where it left none."""
        try:
            return (self._root / "partial" / check_blob_name(blob_id)).stat().st_size
        except FileNotFoundError:
            return 0

    def read_chunks(self, blob_id: str, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Iterate over a blob's bytes from `offset` on, unverified: the receiver checks the hash.

        Raises ProtocolError, before the first chunk, where the blob is not here or is shorter than `offset`.
        """
        size = self.size(blob_id)
        if not 0 <= offset <= size:
            raise ProtocolError(f"{blob_id} has {size} bytes, asked for byte {offset} on; start again from byte 0")
        return self._chunks(blob_id, offset, chunk_bytes)

    def read_bytes(self, blob_id: str) -> bytes:
        """Return a whole blob, verified; raises ProtocolError where it is not here, BlobCorrupt on another hash."""
        data = self.path(blob_id).read_bytes()
        actual_id = blob_name(data)
        if actual_id != blob_id:
            raise BlobCorrupt(
                f"{self.path(blob_id)}: expected {blob_id}, the file is {actual_id}; delete it, fetch it again"
            )
        return data

    def view(self, blob_id: str) -> memoryview:
        """Return a whole blob as a read-only view of its file, neither copied nor verified.

        For bytes that this process has verified before or that a receiver will verify. The view stays valid after the
        blob is deleted. Raises ProtocolError where the blob is not here.
        """
        try:
            with self.path(blob_id).open("rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    return memoryview(b"")  # mmap refuses an empty file
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError:
            raise _missing(blob_id) from None

    def delete(self, blob_id: str) -> None:
        """Delete a blob's file, its alias (the aliased file stays) and its partial; missing ones are no error."""
        self._aliases.pop(blob_id, None)
        blob_path(self._root, blob_id).unlink(missing_ok=True)
        delete_unlocked(self._root / "partial" / check_blob_name(blob_id))

    def delete_partials(self, older_than_s: float, now_s: float) -> int:
        """Delete partials that nothing was written to for `older_than_s` seconds; return how many. Open ones stay.

        `now_s` is wall-clock time (seconds since 1970): it is compared with the files' modification times.
        """
        deleted = 0
        for path in sorted((self._root / "partial").glob("*")):
            try:
                idle_s = now_s - path.stat().st_mtime
            except FileNotFoundError:
                continue  # its writer has published it since the listing
            if idle_s >= older_than_s:
                deleted += delete_unlocked(path)
        return deleted

    def _find(self, blob_id: str) -> Path | None:
        stored = blob_path(self._root, blob_id)
        if stored.is_file():
            return stored
        alias = self._aliases.get(blob_id)
        return alias if alias is not None and alias.is_file() else None

    def _put(self, chunks: Iterable[Buffer], durable: bool, blob_id: str | None = None) -> str:
        """Write a new blob; `blob_id` is its name where the caller has hashed the bytes already."""
        folder = self._root / "partial"
        make_private_folder(folder)
        temporary = folder / f"put.{secrets.token_hex(8)}"
        digest = hashlib.sha256()
        try:
            with (
                name_file_in_errors(temporary),
                os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file,
            ):
                for chunk in chunks:
                    file.write(chunk)
                    if blob_id is None:
                        digest.update(chunk)
                file.flush()
                if durable:  # before the rename: else a power cut may leave the name with empty content
                    os.fsync(file.fileno())
            name = blob_id or name_of(digest)
            publish(temporary, blob_path(self._root, name), durable=durable)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return name

    def _chunks(self, blob_id: str, offset: int, chunk_bytes: int) -> Iterator[bytes]:
        try:
            with self.path(blob_id).open("rb") as file:
                file.seek(offset)
                while chunk := file.read(chunk_bytes):
                    yield chunk
        except FileNotFoundError:
            raise _missing(blob_id) from None


def _missing(blob_id: str) -> ProtocolError:
    return ProtocolError(f"blob {blob_id} is not here: it was never stored, or dropped when its round closed")
