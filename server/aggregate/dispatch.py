"""A plan as it travels: every assignment with its blobs. Devices with equal assignments share the blobs."""

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Strategy
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.assignment import AssignmentBlobs, to_wire
from fedcore.protos.values import BlobRef, GlobalAdapter, WireAssignment
from fedcore.server.aggregate.adapter_blobs import blocks_below
from fedcore.server.aggregate.uploads import upload_bound
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import put_blob


class LabelCensus:
    """Training rows by label over every device that has joined; each call counts only new or changed profiles."""

    def __init__(self) -> None:
        """Begin without a device."""
        self._rows: Counter[str] = Counter()
        self._counted: dict[str, DeviceProfile] = {}

    def rows(self, profiles: Mapping[str, DeviceProfile], labels: tuple[str, ...]) -> tuple[int, ...]:
        """Return the rows of all `profiles`, in the order of `labels`; a changed profile replaces the earlier one."""
        for name in self._counted.keys() - profiles.keys():
            self._rows.subtract(dict(self._counted.pop(name).label_counts))
        for name, profile in profiles.items():
            before = self._counted.get(name)
            if before is not profile:
                if before is not None:
                    self._rows.subtract(dict(before.label_counts))
                self._rows.update(dict(profile.label_counts))
                self._counted[name] = profile
        return tuple(self._rows[label] for label in labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatcher:
    """Turns the assignments of one round into messages."""

    strategy: Strategy
    blobs: BlobStore
    adapter: GlobalAdapter  # that devices fetch for this round
    rings: Sequence[KeepSet] = ()  # nested keep-sets that split the adapter's blocks; empty if the blocks are whole
    counted_rounds: Mapping[str, int]  # by device, the last round that counts its update
    label_counts: tuple[int, ...]  # of the fleet, by agreed label; empty where label skew is ignored

    def dispatch(self, assignments: Iterable[Assignment]) -> dict[str, WireAssignment]:
        """Return the messages by device, in order, and store the keep-sets where devices fetch them."""
        sendable: dict[str, WireAssignment] = {}
        shared: dict[tuple[str, int, str], AssignmentBlobs] = {}
        packed = [put_blob(self.blobs, ring.to_bits(self.strategy.spec.geometry), "ring") for ring in self.rings]
        basis = self._basis
        for assignment in assignments:
            key = assignment.keep_set.blob_id, assignment.arm.rank, assignment.training.codec
            blobs = shared.get(key)
            if blobs is None:
                blobs = shared[key] = self._blobs(assignment, packed)
            sendable[assignment.device] = to_wire(
                assignment,
                blobs,
                basis=basis,
                label_counts=self.label_counts,
                counted_round=self.counted_rounds.get(assignment.device, 0),
            )
        return sendable

    @property
    def _basis(self) -> str:
        """Name of the basis of the factors' coordinates; optimiser moments are valid within one basis only.

        Under a reducing aggregator coordinates persist; a new decomposition is a new basis.
        """
        persistent = self.strategy.aggregator.kind == "reducing"
        return "persistent" if persistent else self.adapter.rank_blocks[0].id

    def _blobs(self, assignment: Assignment, packed: Sequence[BlobRef]) -> AssignmentBlobs:
        keep_set, rank = assignment.keep_set, assignment.arm.rank
        last = bisect.bisect_left(
            self.rings, keep_set.counts.size_key, key=lambda ring: ring.counts.size_key
        )  # rings nest
        rings, inside = tuple(packed[: last + 1]), None
        if rings and keep_set != self.rings[last]:
            inside = put_blob(self.blobs, keep_set.to_bits(self.strategy.spec.geometry), "keep-set")
        data = keep_set.to_bytes()
        named = BlobRef(id=keep_set.blob_id, size=len(data), name="keep-set")
        return AssignmentBlobs(
            keep_set=named if rings else put_blob(self.blobs, data, "keep-set"),
            rings=rings,
            inside=inside,
            rank_blocks=blocks_below(self.adapter, rank, rings=len(rings)),
            head=self.adapter.head,
            base_shift=self.adapter.base_shift,
            max_upload_bytes=upload_bound(assignment, self.strategy.spec),
        )
