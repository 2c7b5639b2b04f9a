"""The base shift as a device holds it over the rounds: whole once, then step by step."""

from dataclasses import dataclass, field

from fedcore.core.codec.chain import decode
from fedcore.core.model.base_shift import Arrays, after_step, shift_of
from fedcore.protos.values import BaseShift, BlobRef
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import payload_view


@dataclass(slots=True, kw_only=True)
class HeldShift:
    """What is to be added to the base weights as of closed round `round`; 0: nothing yet. Lives in memory only."""

    round: int = 0
    tensors: Arrays = field(default_factory=dict)

    def lacks(self, shift: BaseShift | None) -> tuple[BlobRef, ...]:
        """Return the blobs to bring before `take`."""
        return () if shift is None else shift.since(self.round)

    def take(self, shift: BaseShift | None, blobs: BlobStore) -> None:
        """Come up to `shift`; the blobs it lacks are here, and are deleted: they are the largest a device fetches.

        Raises ProtocolError where a step does not fit; what is held stays then.
        """
        if shift is None:
            self.round, self.tensors = 0, {}
            return
        held, lacked = self.tensors, self.lacks(shift)
        for ref in lacked:
            carried = decode(payload_view(ref, blobs))
            if ref == shift.whole:
                held = {name: value.copy() for name, value in shift_of(carried).items()}
            else:
                held = after_step(held, carried)
        self.round, self.tensors = shift.round, held
        for ref in lacked:
            blobs.delete(ref.id)
