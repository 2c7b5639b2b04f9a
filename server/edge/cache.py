"""The blobs an edge hands on: each crosses the uplink once, however many devices ask for it at the same time."""

import asyncio
from collections.abc import Callable, Iterable

from fedcore.core.errors import ProtocolError
from fedcore.protos.values import BlobRef
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.link import Link
from fedcore.transport.retry import retrying


class EdgeCache:
    """Brings known blobs from the tier above on demand. Lives on the event loop."""

    def __init__(self, blobs: BlobStore, link: Link, *, arrived: Callable[[], None]) -> None:
        """Cache in `blobs` what comes over `link`; `arrived` is called once a lasting blob is here."""
        self._blobs = blobs
        self._link = link
        self._told = arrived
        self._known: dict[str, BlobRef] = {}
        self._lasting: set[str] = set()
        self._coming: dict[str, asyncio.Task[None]] = {}

    def learn(self, refs: Iterable[BlobRef], *, lasting: bool = False) -> None:
        """Remember what these blobs are; `lasting` ones outlive the rounds."""
        for ref in refs:
            for each in (ref, _delta(ref)):
                if each is not None:
                    self._known[each.id] = each
                    if lasting:
                        self._lasting.add(each.id)

    def forget_all_but(self, needed: Iterable[BlobRef]) -> None:
        """Delete what neither lasts nor is among `needed`."""
        stay = {each.id for ref in needed for each in (ref, _delta(ref)) if each is not None} | self._lasting
        for blob_id in set(self._known) - stay:
            del self._known[blob_id]
            if blob_id not in self._coming:
                self._blobs.delete(blob_id)

    def keep_lasting(self) -> None:
        """Delete whatever does not last, also what an earlier life of this edge left."""
        for blob_id in self._blobs.names() - self._lasting:
            self._blobs.delete(blob_id)

    def held(self) -> tuple[str, ...]:
        """Known blobs that are here, sorted."""
        return tuple(sorted(blob_id for blob_id in self._known if self._blobs.has(blob_id)))

    async def bring(self, blob_id: str) -> None:
        """Return once the blob is here; raises ProtocolError where nobody named it, TransportError where it broke."""
        if self._blobs.has(blob_id):
            return
        ref = self._known.get(blob_id)
        if ref is None:
            raise ProtocolError(f"blob {blob_id} is not here: it was never handed out, or dropped with its round")
        task = self._coming.get(blob_id)
        if task is None:
            task = asyncio.create_task(self._fetch(ref))
            self._coming[blob_id] = task
            task.add_done_callback(lambda done: self._arrived(blob_id, done))
        await asyncio.shield(task)

    async def close(self) -> None:
        """Stop every transfer."""
        coming = list(self._coming.values())
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)

    async def _fetch(self, ref: BlobRef) -> None:
        async def fetch() -> None:
            await self._link.fetch(ref, self._blobs)

        await retrying(fetch)

    def _arrived(self, blob_id: str, done: "asyncio.Task[None]") -> None:
        self._coming.pop(blob_id, None)
        if not done.cancelled() and done.exception() is None and blob_id in self._lasting:  # whoever waits has met it
            self._told()
        if blob_id not in self._known:  # dropped with its round while it was on its way
            self._blobs.delete(blob_id)


def _delta(ref: BlobRef) -> BlobRef | None:
    return BlobRef(id=ref.delta_id, size=ref.delta_size) if ref.delta_id else None
