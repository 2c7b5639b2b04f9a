"""The base model a client works with: its own folder, or the coordinator's files brought as blobs."""

from pathlib import Path

from client.link import Link
from fedcore.errors import ProtocolError
from protos.values import RunDescription
from storage.blobs import BlobStore


async def base_model(link: Link, description: RunDescription, own: Path | None, state: Path) -> Path:
    """Return the model folder; without an own one every file is fetched, verified by hash, and linked into place."""
    if own is not None:
        return own
    store = BlobStore(state / "model-blobs")
    folder = state / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for ref in description.model_files:
        if not ref.name or Path(ref.name).name != ref.name:
            raise ProtocolError(f"model file {ref.name!r}: expected a plain file name")
        await link.fetch(ref, store)
        target = folder / ref.name
        target.unlink(missing_ok=True)
        target.hardlink_to(store.path(ref.id))
    return folder
