"""Class exports: the evaluator's uploaded files become runs/<name>/exports/<class>/."""

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fedcore.errors import ProtocolError
from protos.values import BlobRef
from storage.blobs import BlobStore


def place_export(folder: Path, files: Sequence[BlobRef], blobs: BlobStore) -> None:
    """Put an export's files in `folder`, replacing an earlier export as a whole.

    Raises ProtocolError on a file name that leaves the folder.
    """
    building = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(building, ignore_errors=True)
    for ref in files:
        path = PurePosixPath(ref.name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ProtocolError(f"export file {ref.name!r}: expected a name inside the export folder")
        target = building / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blobs.path(ref.id), target)
    shutil.rmtree(folder, ignore_errors=True)
    building.replace(folder)
    for ref in files:
        blobs.delete(ref.id)
