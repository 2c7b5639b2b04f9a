"""The blobs that an edge serves: a blob crosses the uplink once, however many devices request it at the same time."""

import asyncio
from collections.abc import Callable, Iterable, Iterator

from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.link import Link
from fedcore.transport.retry import retrying


class EdgeCache:
    """Fetches blobs from the tier above on demand, and stores them. Lives on the event loop."""

    def __init__(self, blobs: BlobStore, link: Link, *, on_arrival: Callable[[], None]) -> None:
        """Store in `blobs` what `link` fetches; `on_arrival` is called whenever a lasting blob has arrived."""
        self._blobs = blobs
        self._link = link
        self._on_arrival = on_arrival
        self._refs: dict[str, BlobRef] = {}
        self._lasting: set[str] = set()
        self._transfers: dict[str, asyncio.Task[None]] = {}

    def learn(self, refs: Iterable[BlobRef], *, lasting: bool = False) -> None:
        """Note references to blobs that devices may fetch; `lasting` blobs outlive the rounds."""
        for ref in _with_deltas(refs):
            self._refs[ref.id] = ref
            if lasting:
                self._lasting.add(ref.id)

    def forget_all_but(self, needed: Iterable[BlobRef]) -> None:
        """Delete every blob that neither lasts nor is among `needed`."""
        for blob_id in set(self._refs) - {ref.id for ref in _with_deltas(needed)} - self._lasting:
            del self._refs[blob_id]
            if blob_id not in self._transfers:
                self._blobs.delete(blob_id)

    def keep_lasting(self) -> None:
        """Delete every blob that does not last, also those of an earlier process of this edge."""
        for blob_id in self._blobs.names() - self._lasting:
            self._blobs.delete(blob_id)

    def blob_ids(self) -> tuple[str, ...]:
        """Return the ids of the noted blobs that are in the store, sorted."""
        return tuple(sorted(blob_id for blob_id in self._refs if self._blobs.has(blob_id)))

    async def ensure_blob(self, blob_id: str) -> None:
        """Return once the blob is here, fetching it if it is missing.

        Raises ProtocolError for a blob that `learn` did not note, TransportError if the transfer broke.
        """
        if self._blobs.has(blob_id):
            return
        ref = self._refs.get(blob_id)
        if ref is None:
            raise ProtocolError(f"blob {blob_id} is not here: it was never handed out, or dropped with its round")
        task = self._transfers.get(blob_id)
        if task is None:
            task = asyncio.create_task(self._fetch(ref))
            self._transfers[blob_id] = task
            task.add_done_callback(lambda done: self._arrived(blob_id, done))
        await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel every transfer."""
        transfers = list(self._transfers.values())
        for task in transfers:
            task.cancel()
        await asyncio.gather(*transfers, return_exceptions=True)

    async def _fetch(self, ref: BlobRef) -> None:
        async def fetch() -> None:
            await self._link.fetch(ref, self._blobs)

        await retrying(fetch)

    def _arrived(self, blob_id: str, done: "asyncio.Task[None]") -> None:
        self._transfers.pop(blob_id, None)
        # Waiting callers raise the exception of a broken transfer; here it only needs to be looked at.
        if not done.cancelled() and done.exception() is None and blob_id in self._lasting:
            self._on_arrival()
        if blob_id not in self._refs:  # forgotten with its round during the transfer
            self._blobs.delete(blob_id)


def _with_deltas(refs: Iterable[BlobRef]) -> Iterator[BlobRef]:
    for ref in refs:
        yield ref
        if ref.delta_id:
            yield BlobRef(id=ref.delta_id, size=ref.delta_size)
