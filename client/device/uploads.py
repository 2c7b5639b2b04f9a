"""Sending an update and its scores: inside the submission where they are small, else as uploads before it."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

from fedcore.protos.values import BlobRef, UpdateSubmission, UploadHeader
from fedcore.protos.wire import INLINE_BYTES
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.link import Link
from fedcore.transport.retry import retrying


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploads:
    """One device's uploads.

    `session` gives the session that an upload may belong to now; it raises TransportError where there is none.
    """

    name: str
    link: Link
    blobs: BlobStore
    session: Callable[[], str]
    retry_s: float  # between tries of a broken transfer

    async def send(self, submission: UpdateSubmission) -> tuple[UpdateSubmission, int]:
        """Return `submission` ready to be sent, its blobs inside or uploaded, and how many bytes they took.

        Raises TransportError where the link stays broken, UpdateLate where the parent wants no update of the round.
        """
        sent, refs = 0, []
        for ref in (submission.update, submission.scores):
            if ref is not None and ref.size <= INLINE_BYTES:
                refs.append(await self.link.pack(ref, self.blobs.read_bytes(ref.id)))
                sent += ref.size
            elif ref is not None:
                upload = functools.partial(self._upload, ref, submission.round)
                sent += await retrying(upload, pause_s=self.retry_s)
                refs.append(ref)
        scores = refs[1] if submission.scores is not None else None
        return replace(submission, update=refs[0], scores=scores), sent

    async def _upload(self, ref: BlobRef, number: int) -> int:
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self.session(), round=number)
        return await self.link.upload(self.blobs.view(ref.id), header)  # the receiver hashes it
