"""Exports of device classes: copies the evaluator's uploaded files to runs/<name>/exports/<class>/."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef
from fedcore.storage.blobs.store import BlobStore


def place_export(folder: Path, files: Sequence[BlobRef], blobs: BlobStore) -> None:
    """Put an export's files into `folder`, replacing an earlier export as a whole.

    Raises ProtocolError, and keeps the earlier export, for a file name that leaves the folder, a blob that is not here,
    or no files at all.
    """
    if not files:
        raise ProtocolError(f"the export of class {folder.name} has no file; make it with: fedcore export")
    building = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    try:
        _fill(building, files, blobs)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)


def _fill(building: Path, files: Sequence[BlobRef], blobs: BlobStore) -> None:
    for ref in files:
        path = PurePosixPath(ref.name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ProtocolError(f"export file {ref.name!r}: expected a name inside the export folder")
        target = building / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blobs.path(ref.id), target)
