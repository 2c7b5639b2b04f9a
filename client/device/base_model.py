"""The base model of a client: its own folder, or the coordinator's files fetched as blobs."""

import asyncio
from pathlib import Path

from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef, RunDescription
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.file_hash import file_sha256
from fedcore.transport.link import Link


async def base_model(link: Link, description: RunDescription, own: Path | None, state: Path) -> Path:
    """Return the model folder: `own`, or one below `state` whose files are fetched, verified by hash and linked."""
    if own is not None:
        return own
    for ref in description.model_files:
        if Path(ref.name).name != ref.name or ref.name in ("", ".."):
            raise ProtocolError(f"model file {ref.name!r}: expected a plain file name")
    store = BlobStore(state / "model-blobs")
    folder = state / "model"
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.iterdir()} - {ref.name for ref in description.model_files}:
        (folder / stale).unlink()  # of another run's model: one extra file can be another tokenizer
    for ref in description.model_files:
        await asyncio.to_thread(_forget_damaged, store, ref)
        await link.fetch(ref, store)
        target = folder / ref.name
        target.unlink(missing_ok=True)
        target.hardlink_to(store.path(ref.id))
    return folder


def _forget_damaged(store: BlobStore, ref: BlobRef) -> None:
    """Drop a file that a power cut has spoilt since it was verified."""
    if store.has(ref.id) and f"sha256:{file_sha256(store.path(ref.id))}" != ref.id:
        store.delete(ref.id)
