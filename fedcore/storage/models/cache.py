"""The cache folder of fetched models and data."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: `FEDCORE_CACHE`, or ~/.cache/fedcore. It may not exist yet."""
    configured = os.environ.get("FEDCORE_CACHE")
    return Path(configured).expanduser() if configured else Path.home() / ".cache" / "fedcore"


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
