"""One process per run, edge or device folder: the operating system drops the lock when the process dies."""

import fcntl
import os
from pathlib import Path

from fedcore.core.errors import RunError

LOCK_FILE = "{role}.lock"


class FolderLock:
    """The lock of a folder, which this process holds until `release`."""

    def __init__(self, folder: Path, *, role: str = "coordinator", remedy: str = "--run-dir") -> None:
        """Take the lock for one process of `role`; raises RunError naming its holder and the `remedy`."""
        self._path = folder / LOCK_FILE.format(role=role)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise RunError(
                f"{folder} is in use by a running {role} (process {holder}); stop it first, or choose another "
                f"folder with {remedy}"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the lock and keep the file: deleting it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
