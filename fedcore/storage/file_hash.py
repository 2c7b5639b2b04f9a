"""The hash of a file's bytes."""

import hashlib
from pathlib import Path

READ_BYTES = 1 << 20


def file_sha256(file: Path) -> str:
    """Return the sha256 hex of a file's bytes, streamed."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while piece := stream.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()
