"""The contents of a share of a round: assignments with their small blobs inside, and large blobs to fetch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedcore.core.aggregation.table import make_aggregator
from fedcore.protos.tier_values import RoundShare
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.server.rounds.edge_dispatch import shift_refs_of, with_small_blobs


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareContents:
    """One share, unpacked. `share` has every small blob of the round's shares so far."""

    share: RoundShare
    assignments: Mapping[str, WireAssignment]  # by device, small blobs inside

    @property
    def large_blobs(self) -> list[BlobRef]:
        """Blobs that its devices will request from this edge."""
        return large_refs(self.assignments.values())

    @property
    def own_blob_ids(self) -> list[str]:
        """Ids of the blobs that this edge reads itself and so needs before any device learns of the round.

        The edge verifies every update against its keep-set. An aggregator that bundles reads the global adapter too.
        Raises ConfigError for an aggregator that this version does not know.
        """
        keep_sets = [assignment.kept.id for assignment in self.assignments.values() if not assignment.kept.inline]
        bundling = make_aggregator(self.share.spec.aggregator).kind == "bundling"
        return [*keep_sets, *(ref.id for ref in self.large_blobs)] if bundling else keep_sets


def unpack(share: RoundShare, earlier: RoundShare | None) -> ShareContents:
    """Return the contents of a share, with the small blobs of its round that came only with an `earlier` share."""
    earlier_blobs = (
        {ref.id: ref for ref in earlier.blobs} if earlier is not None and earlier.round == share.round else {}
    )
    blobs = earlier_blobs | {ref.id: ref for ref in share.blobs}
    small = {blob_id: ref.inline for blob_id, ref in blobs.items()}
    return ShareContents(
        share=replace(share, blobs=tuple(blobs.values())),
        assignments={device: with_small_blobs(assignment, small) for device, assignment in share.assignments},
    )


def large_refs(assignments: Iterable[WireAssignment]) -> list[BlobRef]:
    """Return the blobs of these assignments that do not travel inside a share."""
    return [ref for assignment in assignments for ref in assignment.refs if not ref.inline]


def shift_refs(assignments: Iterable[WireAssignment]) -> list[BlobRef]:
    """Return the base-shift blobs of these assignments; a device fetches those that it lacks."""
    return [ref for assignment in assignments for ref in shift_refs_of(assignment)]
