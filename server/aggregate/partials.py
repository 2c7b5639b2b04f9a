"""Verify an edge's submission: none of its updates counts before all of them are checked."""

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
    """One device's group importances: as they came, and decoded if an assignment is known here to check them by."""

    scores: GroupScores | None
    data: memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedPartial:
    """A partial, packed in its buffer; every call unpacks it anew, because a merge consumes the unpacked partial."""

    aggregator: Aggregator[Any]
    spec: AdapterSpec
    adapter: Tensors | None
    data: memoryview

    def __call__(self) -> Any:
        """Unpack the partial."""
        return self.aggregator.unpack(self.data, self.spec, self.adapter)

    def release_pages(self) -> None:
        """Release the pages that a verification or a merge has read."""
        release_pages(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPartial:
    """An edge's submission, checked against the terms of its round."""

    partial: PackedPartial | None  # None if no update in it counts
    outcomes: tuple[LeafOutcome, ...]
    scores: Mapping[str, ReceivedScores]  # by device
    weight: int = 0  # of all updates in the partial

    @property
    def counted(self) -> tuple[str, ...]:
        """The devices with an update in the partial."""
        return tuple(outcome.device for outcome in self.outcomes if outcome.counted)

    def unassigned_weight(self, terms: RoundTerms) -> int:
        """Return the weight of the devices without an assignment under `terms`."""
        return self.weight - terms.weight_of(self.counted)


def partial_bound(terms: RoundTerms, devices: int) -> int:
    """Return the most bytes that one blob of an edge's submission for so many `devices` of the round may have."""
    scored = (assignment for assignment in terms.assignments.values() if assignment.score)
    scores = max(map(score_bound, scored), default=0)
    return max(terms.aggregator.packed_bytes_bound(terms.spec, devices), devices * scores)


def verify_partial(
    edge: str, submission: PartialSubmission, terms: RoundTerms, others: Iterable[VerifiedPartial]
) -> VerifiedPartial:
    """Return the verified partial of a submission; raises UpdateRejected, naming edge and round, if it does not fit.

    `others` are the partials of the round that were verified before: all of them together must fit into one sum.
    """
    subject = f"partial {submission.number} of {edge} for round {submission.round}"
    try:
        reported = _checked_outcomes(submission, terms, subject)
        scores = _scores(submission, reported, terms)
        packed, weight = _packed(submission, terms, subject)
        verified = VerifiedPartial(partial=packed, outcomes=submission.leaves, scores=scores, weight=weight)
        _check_room(verified, terms, others, subject)
        return verified
    except (UpdateRejected, ProtocolError) as error:
        raise UpdateRejected(str(error) if str(error).startswith(subject) else f"{subject}: {error}") from None


def _checked_outcomes(submission: PartialSubmission, terms: RoundTerms, subject: str) -> dict[str, Assignment]:
    """Check every device's outcome and return the assignments of those counted devices that have one."""
    names = [outcome.device for outcome in submission.leaves]
    if names != sorted(set(names)):
        raise UpdateRejected(f"{subject}: expected every leaf once, sorted by name")
    for outcome in submission.leaves:
        if outcome.device not in terms.assignments and not terms.unassigned:
            raise UpdateRejected(f"{subject}: {outcome.device[:80]!r} has no assignment in this round")
        _check_outcome(outcome, f"{subject}: {outcome.device}")
    return {device: terms.assignments[device] for device in submission.counted if device in terms.assignments}


def _check_outcome(outcome: LeafOutcome, subject: str) -> None:
    if outcome.counted != (outcome.report is not None):
        raise UpdateRejected(f"{subject}: expected a report with every counted update, and only there")
    if outcome.scores_bytes and not outcome.counted:
        raise UpdateRejected(f"{subject}: expected importances with a counted update only")
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in (outcome.time_s, outcome.fold_s)):
        raise UpdateRejected(f"{subject}: expected times of 0 or more seconds")
    if outcome.report is not None:
        check_report(outcome.report, subject)


def _scores(
    submission: PartialSubmission, assignments: Mapping[str, Assignment], terms: RoundTerms
) -> dict[str, ReceivedScores]:
    """Split the importances by device; `assignments` are those of the counted devices."""
    _check_scores_sent(submission, assignments)
    if submission.scores is None:
        return {}
    data = blob_payload(terms.blobs, submission.scores, partial_bound(terms, len(submission.leaves)))
    total = sum(outcome.scores_bytes for outcome in submission.leaves)
    if len(data) != total:
        raise UpdateRejected(f"expected {total} bytes of importances, got {len(data)}")
    scores: dict[str, ReceivedScores] = {}
    start = 0
    for outcome in submission.leaves:
        piece = data[start : start + outcome.scores_bytes]
        start += outcome.scores_bytes
        assignment = assignments.get(outcome.device)
        decoded = None
        if assignment is not None and assignment.score:
            decoded = read_scores(piece, assignment, outcome.device)
        scores[outcome.device] = ReceivedScores(scores=decoded, data=piece)
    return scores


def _check_scores_sent(submission: PartialSubmission, assignments: Mapping[str, Assignment]) -> None:
    """Raise UpdateRejected if importances came that no assignment asks for, or if requested ones are missing."""
    scored = {device for device, assignment in assignments.items() if assignment.score}
    senders = [outcome.device for outcome in submission.leaves if outcome.scores_bytes]
    surplus = [device for device in senders if device in assignments and device not in scored]
    if surplus:
        raise UpdateRejected(f"group importances came of devices that were not asked for them: {surplus[:3]}")
    missing = [outcome.device for outcome in submission.leaves if outcome.device in scored and not outcome.scores_bytes]
    if missing or (senders and submission.scores is None):
        raise UpdateRejected(f"group importances were asked for and are missing: {missing[:3]}")


def _packed(submission: PartialSubmission, terms: RoundTerms, subject: str) -> tuple[PackedPartial | None, int]:
    """Return the packed partial and its weight; raises UpdateRejected unless it holds exactly the counted updates."""
    counted = submission.counted
    if submission.partial is None:
        if counted:
            raise UpdateRejected(f"{subject}: {len(counted)} leaves are counted in a partial that did not come")
        return None, 0
    data = blob_payload(terms.blobs, submission.partial, partial_bound(terms, len(counted)))
    packed = PackedPartial(aggregator=terms.aggregator, spec=terms.spec, adapter=terms.adapter, data=data)
    members = packed().members
    packed.release_pages()
    expected = {(device, submission.round) for device in counted}
    if members.keys != expected:
        raise UpdateRejected(f"{subject}: it holds other updates than it says: {sorted(members.keys ^ expected)[:3]}")
    _check_weight(members.weight, counted, terms, subject)
    return packed, members.weight


def _check_weight(weight: int, counted: Sequence[str], terms: RoundTerms, subject: str) -> None:
    assigned = terms.weight_of(counted)
    unassigned = sum(device not in terms.assignments for device in counted)  # every device weighs 1 or more
    if weight < assigned + unassigned or (weight > assigned and not unassigned):
        raise UpdateRejected(f"{subject}: expected a total weight of {assigned} as assigned, got {weight}")


def _check_room(partial: VerifiedPartial, terms: RoundTerms, others: Iterable[VerifiedPartial], subject: str) -> None:
    """Refuse a partial if the weight of its unknown devices could push a sum over its bound and so end this edge."""
    weight = partial.unassigned_weight(terms)
    room = MAX_TOTAL_WEIGHT - sum(other.unassigned_weight(terms) for other in others) - terms.assigned_weight
    if weight and weight > room:
        raise UpdateRejected(f"{subject}: expected a weight of {room} at most of devices unknown here, got {weight}")
