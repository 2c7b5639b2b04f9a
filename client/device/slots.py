"""Names for replicas: processes that share one state folder and are told apart by which part of it they hold.

`--name auto --class nx --state /state` takes the first of /state/nx-0, /state/nx-1, ... that nobody holds, by a lock
that dies with its process, and its name with it. So the identity, the training state and the unsent update of nx-0
belong to whoever is nx-0 now, over restarts of containers too, and no two of them ever collide.
"""

from dataclasses import dataclass
from pathlib import Path

from fedcore.core.contract.profile import check_name
from fedcore.core.errors import RunError
from fedcore.storage.folder_lock import FolderLock

MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A name and the state folder that goes with it, held as long as this process lives or until `release`."""

    name: str
    folder: Path
    lock: FolderLock

    def release(self) -> None:
        """Give name and folder back."""
        self.lock.release()


def claim_slot(state: Path, prefix: str) -> Slot:
    """Take the first free slot of `prefix` below `state`; raises ConfigError where `prefix` cannot begin a name.

    Raises RunError where all are taken.
    """
    for number in range(MOST):
        name = f"{prefix}-{number}"
        check_name(name)
        folder = state / name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return Slot(name=name, folder=folder, lock=FolderLock(folder, role="device", remedy="--state"))
        except RunError:
            continue
    raise RunError(f"all {MOST} slots of {prefix} in {state} are held by running devices; choose another --state")
