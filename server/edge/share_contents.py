"""What a share of a round's work brings to an edge: assignments with their small blobs inside, and blobs to fetch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from fedcore.core.aggregation.table import make_aggregator
from fedcore.protos.tier_values import RoundShare
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.server.rounds.edge_dispatch import filled, shift_refs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareContents:
    """One share, unpacked. `share` has every small blob that the round's shares have brought so far."""

    share: RoundShare
    assignments: Mapping[str, WireAssignment]  # by device, small blobs inside

    @property
    def large(self) -> list[BlobRef]:
        """Blobs that its devices will ask this edge for."""
        return large_refs(self.assignments.values())

    @property
    def first(self) -> list[str]:
        """Blobs that this edge reads itself, so that they are here before any device hears of the round.

        Every update is verified against its keep-set. An aggregator that bundles works on the adapter handed out.
        Raises ConfigError for an aggregator that this version does not know.
        """
        keep_sets = [assignment.kept.id for assignment in self.assignments.values() if not assignment.kept.inline]
        bundling = make_aggregator(self.share.spec.aggregator).kind == "bundling"
        return [*keep_sets, *(ref.id for ref in self.large)] if bundling else keep_sets


def unpack(share: RoundShare, earlier: RoundShare | None) -> ShareContents:
    """Return what a share brings; small blobs that came with an `earlier` share of its round are not in it again."""
    known = {ref.id: ref for ref in earlier.blobs} if earlier is not None and earlier.round == share.round else {}
    blobs = known | {ref.id: ref for ref in share.blobs}
    small = {blob_id: ref.inline for blob_id, ref in blobs.items()}
    return ShareContents(
        share=replace(share, blobs=tuple(blobs.values())),
        assignments={device: filled(assignment, small) for device, assignment in share.assignments},
    )


def large_refs(assignments: Iterable[WireAssignment]) -> list[BlobRef]:
    """Blobs of these assignments that do not travel inside a share."""
    return [ref for assignment in assignments for ref in assignment.refs if not ref.inline]


def shift_refs(assignments: Iterable[WireAssignment]) -> list[BlobRef]:
    """Blobs of the base shifts of these assignments, which a device fetches as far as it lacks them."""
    return [ref for assignment in assignments for ref in shift_refs_of(assignment)]
