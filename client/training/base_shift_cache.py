"""A device's copy of the base shift: fetched whole once, then advanced step by step over the rounds."""

from dataclasses import dataclass, field

from fedcore.core.codec.chain import decode
from fedcore.core.model.base_shift import Arrays, after_step, shift_of
from fedcore.protos.values import BaseShift, BlobRef
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import payload_view


@dataclass(slots=True, kw_only=True)
class BaseShiftCache:
    """What is to be added to the base weights as of closed round `round`; 0: nothing yet. Lives in memory only."""

    round: int = 0
    tensors: Arrays = field(default_factory=dict)

    def missing(self, shift: BaseShift | None) -> tuple[BlobRef, ...]:
        """Return the blobs to fetch before `advance`."""
        return () if shift is None else shift.since(self.round)

    def advance(self, shift: BaseShift | None, blobs: BlobStore) -> None:
        """Become `shift`; the missing blobs are in `blobs`, and are deleted: no device fetches larger ones.

        Raises ProtocolError where a step does not fit; the copy stays as it was then.
        """
        if shift is None:
            self.round, self.tensors = 0, {}
            return
        tensors, missing = self.tensors, self.missing(shift)
        for ref in missing:
            carried = decode(payload_view(ref, blobs))
            if ref == shift.whole:
                tensors = {name: value.copy() for name, value in shift_of(carried).items()}
            else:
                tensors = after_step(tensors, carried)
        self.round, self.tensors = shift.round, tensors
        for ref in missing:
            blobs.delete(ref.id)
