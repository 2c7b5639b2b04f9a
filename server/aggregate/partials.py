"""From an edge's submission to a verified partial: nothing is counted before all of it was checked."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission
from fedcore.server.aggregate.mapped_tensors import release_pages
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.server.aggregate.uploads import blob_payload, check_report, read_scores, score_bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedScores:
    """One device's group importances, read (None: it has no assignment here to check them by) and as they came."""

    scores: GroupScores | None
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPartial:
    """A partial as it lies in its buffer; each call opens it anew, for a sum consumes what is merged into it."""

    aggregator: Aggregator[Any]
    spec: AdapterSpec
    adapter: Tensors | None
    data: memoryview

    def __call__(self) -> Any:
        """Return the partial."""
        return self.aggregator.unpack(self.data, self.spec, self.adapter)

    def release_pages(self) -> None:
        """Release the pages that verifying or merging it has read."""
        release_pages(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPartial:
    """What an edge submitted, checked against the terms of its round."""

    partial: PackedPartial | None  # None where nothing in it counts
    leaves: tuple[LeafOutcome, ...]
    scores: Mapping[str, ReceivedScores]  # by device
    weight: int = 0  # of all that is counted in it

    @property
    def counted(self) -> tuple[str, ...]:
        """The devices whose updates are in it."""
        return tuple(leaf.device for leaf in self.leaves if leaf.counted)

    def unassigned_weight(self, terms: RoundTerms) -> int:
        """Return how much of its weight belongs to devices without an assignment under `terms`."""
        return self.weight - terms.weight_of(self.counted)


def partial_bound(terms: RoundTerms, devices: int) -> int:
    """Most bytes any one blob may have in which an edge answers for so many of the round's devices."""
    asked = (assignment for assignment in terms.assignments.values() if assignment.score)
    scores = max(map(score_bound, asked), default=0)
    return max(terms.aggregator.packed_bytes_bound(terms.spec, devices), devices * scores)


def verify_partial(
    edge: str, submission: PartialSubmission, terms: RoundTerms, others: Iterable[VerifiedPartial]
) -> VerifiedPartial:
    """Return the partial behind a submission; raises UpdateRejected, naming edge and round, where it does not fit.

    `others` are the round's partials that were verified before: all of them together must fit into one sum.
    """
    who = f"partial {submission.number} of {edge} for round {submission.round}"
    try:
        reported = _checked_leaves(submission, terms, who)
        scores = _scores(submission, reported, terms)
        packed, weight = _packed(submission, terms, who)
        verified = VerifiedPartial(partial=packed, leaves=submission.leaves, scores=scores, weight=weight)
        _check_room(verified, terms, others, who)
        return verified
    except (UpdateRejected, ProtocolError) as error:
        raise UpdateRejected(str(error) if str(error).startswith(who) else f"{who}: {error}") from None


def _checked_leaves(submission: PartialSubmission, terms: RoundTerms, who: str) -> dict[str, Assignment]:
    """Return the assignments of those counted devices that have one, once every leaf was checked."""
    names = [leaf.device for leaf in submission.leaves]
    if names != sorted(set(names)):
        raise UpdateRejected(f"{who}: expected every leaf once, sorted by name")
    for leaf in submission.leaves:
        if leaf.device not in terms.assignments and not terms.unassigned:
            raise UpdateRejected(f"{who}: {leaf.device[:80]!r} has no assignment in this round")
        _check_leaf(leaf, f"{who}: {leaf.device}")
    return {device: terms.assignments[device] for device in submission.counted if device in terms.assignments}


def _check_leaf(leaf: LeafOutcome, who: str) -> None:
    if leaf.counted != (leaf.report is not None):
        raise UpdateRejected(f"{who}: expected a report with every counted update, and only there")
    if leaf.scores_bytes and not leaf.counted:
        raise UpdateRejected(f"{who}: expected importances with a counted update only")
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in (leaf.time_s, leaf.fold_s)):
        raise UpdateRejected(f"{who}: expected times of 0 or more seconds")
    if leaf.report is not None:
        check_report(leaf.report, who)


def _scores(
    submission: PartialSubmission, assignments: Mapping[str, Assignment], terms: RoundTerms
) -> dict[str, ReceivedScores]:
    """Cut the importances apart; `assignments` are those of the counted devices."""
    _check_asked(submission, assignments)
    if submission.scores is None:
        return {}
    data = blob_payload(terms.blobs, submission.scores, partial_bound(terms, len(submission.leaves)))
    total = sum(leaf.scores_bytes for leaf in submission.leaves)
    if len(data) != total:
        raise UpdateRejected(f"expected {total} bytes of importances, got {len(data)}")
    scores: dict[str, ReceivedScores] = {}
    start = 0
    for leaf in submission.leaves:
        piece = data[start : start + leaf.scores_bytes]
        start += leaf.scores_bytes
        assignment = assignments.get(leaf.device)
        read = None
        if assignment is not None and assignment.score:
            read = read_scores(piece, assignment.keep_set, leaf.device)
        scores[leaf.device] = ReceivedScores(scores=read, data=piece)
    return scores


def _check_asked(submission: PartialSubmission, assignments: Mapping[str, Assignment]) -> None:
    """Raise UpdateRejected where importances came that were not asked for, or did not come that were."""
    asked = {device for device, assignment in assignments.items() if assignment.score}
    sent = [leaf.device for leaf in submission.leaves if leaf.scores_bytes]
    unasked = [device for device in sent if device in assignments and device not in asked]
    if unasked:
        raise UpdateRejected(f"group importances came of devices that were not asked for them: {unasked[:3]}")
    missing = [leaf.device for leaf in submission.leaves if leaf.device in asked and not leaf.scores_bytes]
    if missing or (sent and submission.scores is None):
        raise UpdateRejected(f"group importances were asked for and are missing: {missing[:3]}")


def _packed(submission: PartialSubmission, terms: RoundTerms, who: str) -> tuple[PackedPartial | None, int]:
    """Return the partial in its buffer and the weight in it; it holds the updates that the leaves say."""
    counted = submission.counted
    if submission.partial is None:
        if counted:
            raise UpdateRejected(f"{who}: {len(counted)} leaves are counted in a partial that did not come")
        return None, 0
    data = blob_payload(terms.blobs, submission.partial, partial_bound(terms, len(counted)))
    packed = PackedPartial(aggregator=terms.aggregator, spec=terms.spec, adapter=terms.adapter, data=data)
    members = packed().members
    packed.release_pages()
    expected = {(device, submission.round) for device in counted}
    if members.keys != expected:
        raise UpdateRejected(f"{who}: it holds other updates than it says: {sorted(members.keys ^ expected)[:3]}")
    _check_weight(members.weight, counted, terms, who)
    return packed, members.weight


def _check_weight(weight: int, counted: Sequence[str], terms: RoundTerms, who: str) -> None:
    assigned = terms.weight_of(counted)
    unassigned = sum(device not in terms.assignments for device in counted)  # each of them weighs 1 or more
    if weight < assigned + unassigned or (weight > assigned and not unassigned):
        raise UpdateRejected(f"{who}: expected a total weight of {assigned} as assigned, got {weight}")


def _check_room(partial: VerifiedPartial, terms: RoundTerms, others: Iterable[VerifiedPartial], who: str) -> None:
    """Refuse a weight of devices unknown here with which a sum could outgrow its bound: that would end this edge."""
    weight = partial.unassigned_weight(terms)
    room = MAX_TOTAL_WEIGHT - sum(other.unassigned_weight(terms) for other in others) - terms.assigned_weight
    if weight and weight > room:
        raise UpdateRejected(f"{who}: expected a weight of {room} at most of devices unknown here, got {weight}")
