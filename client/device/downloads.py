"""What an assignment names, brought to the device and read; only the download in use is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.core.errors import BlobCorrupt
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import Received, read_received
from fedcore.transport.link import Link
from fedcore.transport.payload import fetch_all
from fedcore.transport.retry import retrying


@dataclass(slots=True, kw_only=True)
class Downloads:
    """One device's downloads. `current` names the blobs that the next one replaces, also an earlier process's."""

    link: Link
    blobs: BlobStore
    say: Callable[[str], None]
    retry_s: float  # between tries of a broken transfer
    current: set[str] = field(default_factory=set)
    _shift: BaseShiftCache = field(default_factory=BaseShiftCache)

    async def receive(self, assignment: WireAssignment) -> tuple[Received, int]:
        """Return what `assignment` names, and how many bytes came.

        What a power cut has spoilt since it came is fetched once more. Raises TransportError where the link stays
        broken, ProtocolError where the blobs are not what the assignment says.
        """
        bytes_down = await self._fetch(assignment)
        try:
            received = read_received(assignment, self.blobs)
        except BlobCorrupt as error:
            self.say(f"round {assignment.round}: {error}; all of the hand-out is fetched again")
            for ref in assignment.refs:
                self.blobs.delete(ref.id)
            bytes_down += await self._fetch(assignment)
            received = read_received(assignment, self.blobs)
        self._shift.advance(assignment.base_shift, self.blobs)
        return received.with_shift(self._shift.tensors), bytes_down

    async def _fetch(self, assignment: WireAssignment) -> int:
        refs = (*assignment.refs, *self._shift.missing(assignment.base_shift))
        bytes_down = await retrying(lambda: fetch_all(self.link, self.blobs, refs), pause_s=self.retry_s)
        self._delete_older(refs)
        return bytes_down

    def _delete_older(self, refs: tuple[BlobRef, ...]) -> None:
        """Keep only the download in use: blobs that did not change stay, the rest would pile up."""
        current = {ref.id for ref in refs if not ref.inline}
        for blob_id in self.current - current:
            self.blobs.delete(blob_id)
        self.current = current
