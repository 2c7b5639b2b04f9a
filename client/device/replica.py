"""Names for replicas: processes that share one state folder and take a part of it each.

`--name auto --class nx --state /state` takes the first of /state/nx-0, /state/nx-1, ... that no process has locked, and
its name with it. The lock dies with its process. So the process that is nx-0 now has the identity, the training state
and the unsent update of nx-0, also after a restart of its container, and no two processes are ever the same replica.
"""

from dataclasses import dataclass
from pathlib import Path

from fedcore.core.contract.profile import check_name
from fedcore.core.errors import RunError
from fedcore.storage.folder_lock import FolderLock

MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A name and the state folder that goes with it, locked until `release` or the end of the process."""

    name: str
    folder: Path
    lock: FolderLock

    def release(self) -> None:
        """Unlock name and folder."""
        self.lock.release()


def claim_replica(state: Path, prefix: str) -> Replica:
    """Lock the first replica of `prefix` below `state` that no process has locked.

    Raises ConfigError where `prefix` cannot begin a name, RunError where all are locked.
    """
    for number in range(MOST):
        name = f"{prefix}-{number}"
        check_name(name)
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return Replica(name=name, folder=folder, lock=FolderLock(folder, role="device", remedy="--state"))
        except RunError:
            continue
    raise RunError(f"all {MOST} slots of {prefix} in {state} are held by running devices; choose another --state")
