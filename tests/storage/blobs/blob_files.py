"""Names and files of blobs, for the tests of the store and of its writers."""

import hashlib
from pathlib import Path

LIMIT = 1 << 20


def name(data: bytes) -> str:
    """Return the name of `data`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def files(root: Path) -> list[Path]:
    """Return every file below `root`."""
    return sorted(path for path in root.rglob("*") if path.is_file())
