"""From an edge's submission to a verified partial: nothing is counted before all of it was checked."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission
from fedcore.server.aggregate.mapped_tensors import let_go
from fedcore.server.aggregate.uploads import blob_payload, check_report, read_scores, score_bound

if TYPE_CHECKING:
    from fedcore.server.aggregate.round_sum import RoundSum


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One leaf's group importances, read (None: a stranger's, which cannot be checked here) and as they came."""

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

    def let_go(self) -> None:
        """Let go of the pages that verifying or merging it has read."""
        let_go(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivedPartial:
    """A verified partial."""

    partial: PackedPartial | None  # None where nothing in it counts
    leaves: tuple[LeafOutcome, ...]
    scores: Mapping[str, Scored]
    weight: int = 0  # of all that is counted in it

    def strange_weight(self, assignments: Mapping[str, Assignment]) -> int:
        """What of its weight belongs to devices without an assignment here."""
        known = (assignments[leaf.device].weight for leaf in self.leaves if leaf.counted and leaf.device in assignments)
        return self.weight - sum(known)


def part_bound(tally: "RoundSum", devices: int) -> int:
    """Most bytes any one blob may have in which an edge answers for so many of the round's devices."""
    scores = max((score_bound(each) for each in tally.assignments.values() if each.score), default=0)
    return max(tally.aggregator.packed_bytes_bound(tally.spec, devices), devices * scores)


def verify_part(edge: str, submission: PartialSubmission, tally: "RoundSum") -> ArrivedPartial:
    """Return the partial behind a submission; raises UpdateRejected, naming edge and round, where it does not fit."""
    who = f"partial {submission.number} of {edge} for round {submission.round}"
    try:
        leaves = _checked_leaves(submission, tally.assignments, who, strangers=tally.strangers)
        scores = _scores(submission, leaves, tally)
        partial, weight = _partial(submission, tally, who)
        part = ArrivedPartial(partial=partial, leaves=submission.leaves, scores=scores, weight=weight)
        _check_room(part, tally, who)
        return part
    except (UpdateRejected, ProtocolError) as error:
        raise UpdateRejected(str(error) if str(error).startswith(who) else f"{who}: {error}") from None


def _checked_leaves(
    submission: PartialSubmission, assignments: Mapping[str, Assignment], who: str, *, strangers: bool
) -> list[tuple[LeafOutcome, Assignment]]:
    names = [leaf.device for leaf in submission.leaves]
    if names != sorted(set(names)):
        raise UpdateRejected(f"{who}: expected every leaf once, sorted by name")
    checked = []
    for leaf in submission.leaves:
        if leaf.device not in assignments and not strangers:
            raise UpdateRejected(f"{who}: {leaf.device[:80]!r} has no assignment in this round")
        if leaf.counted != (leaf.report is not None):
            raise UpdateRejected(f"{who}: {leaf.device}: expected a report with every counted update, and only there")
        if leaf.scores_bytes and not leaf.counted:
            raise UpdateRejected(f"{who}: {leaf.device}: expected importances with a counted update only")
        if not (math.isfinite(leaf.time_s) and leaf.time_s >= 0 and math.isfinite(leaf.fold_s) and leaf.fold_s >= 0):
            raise UpdateRejected(f"{who}: {leaf.device}: expected times of 0 or more seconds")
        if leaf.report is not None:
            check_report(leaf.report, f"{who}: {leaf.device}")
            if leaf.device in assignments:
                checked.append((leaf, assignments[leaf.device]))
    return checked


def _scores(
    submission: PartialSubmission, leaves: list[tuple[LeafOutcome, Assignment]], tally: "RoundSum"
) -> dict[str, Scored]:
    """Cut the importances apart."""
    asked = {leaf.device: assignment for leaf, assignment in leaves if assignment.score}
    missing = [leaf.device for leaf in submission.leaves if leaf.device in asked and not leaf.scores_bytes]
    unasked = [leaf.device for leaf, assignment in leaves if leaf.scores_bytes and not assignment.score]
    if unasked:
        raise UpdateRejected(f"group importances came of devices that were not asked for them: {unasked[:3]}")
    total = sum(leaf.scores_bytes for leaf in submission.leaves)
    if missing or (total and submission.scores is None):
        raise UpdateRejected(f"group importances were asked for and are missing: {missing[:3]}")
    if submission.scores is None:
        return {}
    data = blob_payload(tally.blobs, submission.scores, part_bound(tally, len(submission.leaves)))
    if len(data) != total:
        raise UpdateRejected(f"expected {total} bytes of importances, got {len(data)}")
    scores, start = {}, 0
    for leaf in submission.leaves:
        piece = data[start : start + leaf.scores_bytes]
        start += leaf.scores_bytes
        known = asked.get(leaf.device)
        read = None if known is None else read_scores(piece, known.keep_set, leaf.device)
        scores[leaf.device] = Scored(scores=read, data=piece)
    return scores


def _partial(submission: PartialSubmission, tally: "RoundSum", who: str) -> tuple[PackedPartial | None, int]:
    counted = submission.counted
    if submission.partial is None:
        if counted:
            raise UpdateRejected(f"{who}: {len(counted)} leaves are counted in a partial that did not come")
        return None, 0
    data = blob_payload(tally.blobs, submission.partial, part_bound(tally, len(counted)))
    packed = PackedPartial(aggregator=tally.aggregator, spec=tally.spec, adapter=tally.adapter, data=data)
    members = packed().members
    packed.let_go()
    expected = {(device, submission.round) for device in counted}
    if members.keys != expected:
        raise UpdateRejected(f"{who}: it holds other updates than it says: {sorted(members.keys ^ expected)[:3]}")
    known = [tally.assignments[device].weight for device in counted if device in tally.assignments]
    weight, strangers = sum(known), len(counted) - len(known)
    if members.weight < weight + strangers or (members.weight > weight and not strangers):
        raise UpdateRejected(f"{who}: expected a total weight of {weight} as assigned, got {members.weight}")
    return packed, members.weight


def _check_room(part: ArrivedPartial, tally: "RoundSum", who: str) -> None:
    """Refuse a weight of devices unknown here with which a sum could outgrow its bound: that would end this edge."""
    strange = part.strange_weight(tally.assignments)
    others = sum(each.strange_weight(tally.assignments) for each in tally.parts.values())
    room = MAX_TOTAL_WEIGHT - others - sum(each.weight for each in tally.assignments.values())
    if strange and strange > room:
        raise UpdateRejected(f"{who}: expected a weight of {room} at most of devices unknown here, got {strange}")
