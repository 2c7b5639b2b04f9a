"""The cache folder of fetched models and data."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedcore.storage.places import home_folder, local_path


def cache_folder() -> Path:
    """Return the cache folder: `FEDCORE_CACHE`, or ~/.cache/fedcore. It may not exist yet.

    Raises ConfigError where neither is known.
    """
    instead = "set FEDCORE_CACHE to a folder for fetched models and data"
    chosen = os.environ.get("FEDCORE_CACHE")
    if not chosen:
        return home_folder(instead) / ".cache" / "fedcore"
    if chosen.split("/")[0] == "~":
        home_folder(instead)
    return local_path(chosen)


def build_entry(target: Path, build: Callable[[Path], None]) -> Path:
    """Return folder `target`; where it does not exist yet, `build(empty_folder)` fills it first.

    The entry appears whole or not at all, even when two processes build it at once: each builds a draft beside it and
    renames the draft. Raises what `build` raises, and then leaves nothing behind.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        build(draft)
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():  # another process has built the same entry first
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target
