"""Names of blobs (`sha256:` and 64 lower-case hex digits), and the path of a blob below a root."""

import hashlib
import re
from pathlib import Path

from fedcore.core.errors import ProtocolError

_NAME = re.compile(r"sha256:[0-9a-f]{64}")


def blob_name(data: bytes) -> str:
    """Return the name of `data`."""
    return name_of(hashlib.sha256(data))


def name_of(digest: "hashlib._Hash") -> str:
    """Return the name for a finished sha256."""
    return f"sha256:{digest.hexdigest()}"


def check_blob_name(blob_id: str) -> str:
    """Return the hex part; raises ProtocolError on anything but a blob name, so that no name leads outside a store."""
    if not _NAME.fullmatch(blob_id):
        raise ProtocolError(f"blob id: expected sha256: and 64 lower-case hex digits, got {blob_id[:80]!r}")
    return blob_id.removeprefix("sha256:")


def blob_path(root: Path, blob_id: str) -> Path:
    """Return `root/sha256/ab/cdef...`: 256 folders keep every folder small. Raises ProtocolError on a bad name."""
    digits = check_blob_name(blob_id)
    return root / "sha256" / digits[:2] / digits[2:]


def make_private_folder(folder: Path) -> None:
    """Create `folder` with mode 0700 unless it exists; missing parents get the default mode."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
