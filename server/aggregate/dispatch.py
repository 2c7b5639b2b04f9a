"""A plan as it travels: every assignment with the blobs it names; what equal devices share is made once."""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.protocols import Strategy
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, GlobalAdapter, Work
from fedcore.server.aggregate.adapter_blobs import blocks_below
from fedcore.server.aggregate.uploads import upload_bound
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import put_blob


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handout:
    """What devices of equal keep-set, rank and codec share in a round."""

    keep_set: BlobRef
    rings: tuple[BlobRef, ...]
    inside: BlobRef | None
    rank_blocks: tuple[BlobRef, ...]
    max_upload_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Turns the assignments of one round into work."""

    strategy: Strategy
    blobs: BlobStore
    adapter: GlobalAdapter  # what the round hands out
    rings: Sequence[KeepSet] = ()  # nested keep-sets that part the adapter's blocks; empty where none do
    counted: Mapping[str, int]  # by device, the last round whose result holds its update
    label_counts: tuple[int, ...]  # of the fleet, by agreed label; empty where label skew is ignored

    def works(self, assignments: Iterable[Assignment]) -> dict[str, Work]:
        """Return every device's work, in order; keep-sets are put where devices fetch them."""
        works: dict[str, Work] = {}
        shared: dict[tuple[str, int, str], _Handout] = {}
        packed = [put_blob(self.blobs, each.to_bits(self.strategy.spec.geometry), "ring") for each in self.rings]
        for each in assignments:
            key = each.keep_set.blob_id, each.arm.rank, each.training.codec
            if key not in shared:
                shared[key] = self._handout(each, packed)
            works[each.device] = self._work(each, shared[key])
        return works

    def _handout(self, assignment: Assignment, packed: Sequence[BlobRef]) -> _Handout:
        keep_set, rank = assignment.keep_set, assignment.arm.rank
        last = bisect.bisect_left(self.rings, keep_set.counts, key=lambda each: each.counts)  # all of them nest
        rings, inside = tuple(packed[: last + 1]), None
        if rings and keep_set != self.rings[last]:
            inside = put_blob(self.blobs, keep_set.to_bits(self.strategy.spec.geometry), "keep-set")
        data = keep_set.to_bytes()
        named = BlobRef(id=keep_set.blob_id, size=len(data), name="keep-set")
        return _Handout(
            keep_set=named if rings else put_blob(self.blobs, data, "keep-set"),
            rings=rings,
            inside=inside,
            rank_blocks=blocks_below(self.adapter, rank, rings=len(rings)),
            max_upload_bytes=upload_bound(assignment, self.strategy.spec),
        )

    def _work(self, assignment: Assignment, handout: _Handout) -> Work:
        reducing = self.strategy.aggregator.kind == "reducing"
        return Work(
            round=assignment.round,
            arm=assignment.arm,
            keep_set=handout.keep_set,
            rings=handout.rings,
            inside=handout.inside,
            rank_blocks=handout.rank_blocks,
            head=self.adapter.head,
            local_steps=assignment.local_steps,
            weight=assignment.weight,
            seed=assignment.seed,
            deadline_s=assignment.deadline_s,
            score=assignment.score,
            training=assignment.training,
            max_upload_bytes=handout.max_upload_bytes,
            label_counts=self.label_counts,
            counted_round=self.counted.get(assignment.device, 0),
            base_shift=self.adapter.base_shift,
            # Factor coordinates persist under a reducing aggregator; a new decomposition is a new basis.
            basis="persistent" if reducing else self.adapter.rank_blocks[0].id,
        )
