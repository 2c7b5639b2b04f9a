"""Everything an edge computes, on its one worker thread: verify, fold, merge, pack. It knows nothing of streams."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.contract.assignment import Assignment
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.tier.commands import Send
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.convert.assignment import from_wire
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission, RoundShare
from fedcore.protos.values import AssignmentFailure, BlobRef, WireAssignment
from fedcore.protos.wire import INLINE_BYTES
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.server.aggregate.uploads import blob_payload
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout, read_keep_set

P = ParamSpec("P")


@dataclass(slots=True, kw_only=True)
class EdgeEngine:
    """The open round below one edge. Use from one thread at a time."""

    blobs: BlobStore
    sum: RoundSum | None = None  # of the open round
    wire_assignments: dict[str, WireAssignment] = field(default_factory=dict)
    _keep_sets: dict[str, KeepSet] = field(default_factory=dict)
    _num_blocks: int = 0  # rank blocks of the adapter in the terms of `sum`
    _packed_blobs: set[str] = field(default_factory=set)  # of submissions; deleted after their round

    def add_share(self, share: RoundShare, wire_assignments: Mapping[str, WireAssignment]) -> None:
        """Add a share to the open round, or open its round. The blobs that this edge reads must be here.

        `wire_assignments` hold the bytes of small blobs inside.
        """
        opened = self._opened(share)
        self.wire_assignments |= wire_assignments
        opened.assign({device: self._assignment(device, assignment) for device, assignment in wire_assignments.items()})
        if opened.terms.aggregator.kind == "bundling":
            self._read_adapter(
                opened, max(wire_assignments.values(), key=lambda assignment: len(assignment.rank_blocks))
            )

    def with_sum(self, action: Callable[Concatenate[RoundSum, P], None], *arguments: P.args, **named: P.kwargs) -> None:
        """Call `action` with the open round's sum; do nothing if no round is open.

        Queue this method on the worker, not the sum's own: it looks up the open round when the worker calls it.
        """
        if self.sum is not None:
            action(self.sum, *arguments, **named)

    def pack(
        self, order: Send, times_s: Mapping[str, float], faults: Mapping[str, AssignmentFailure]
    ) -> PartialSubmission:
        """Return the submission that `order` asks for, store its large blobs, and begin a new sum.

        `times_s`: seconds from push to verified update, for devices on streams of this edge. `faults`: why a device
        does not count.
        """
        current = self.sum
        if current is None or current.terms.round != order.round:
            raise RuntimeError(f"round {order.round} is not open at this edge")
        below = [outcome for key in order.parts for outcome in current.partials[key].outcomes]
        counted = {outcome.device: outcome for outcome in below if outcome.counted}
        failed = {outcome.device: outcome for outcome in below if not outcome.counted}
        outcomes: dict[str, LeafOutcome] = {}
        for device in order.devices:
            outcomes[device] = counted.get(device) or self._outcome(current, device, times_s[device])
        for device in order.failed:
            outcomes.setdefault(device, failed.get(device) or _failed(device, faults.get(device)))
        sorted_outcomes = tuple(outcomes[device] for device in sorted(outcomes))
        partial = current.unfold()
        scores = b"".join(self._scores(current, order, sorted_outcomes))
        return PartialSubmission(
            round=order.round,
            number=order.number,
            partial=self._put(current.terms.aggregator.pack(partial), "partial") if order.devices else None,
            scores=self._put(iter((scores,)), "scores") if scores else None,
            leaves=sorted_outcomes,
        )

    def forget(self, number: int) -> None:
        """Forget a closed round and delete its blobs."""
        if self.sum is None or self.sum.terms.round != number:
            return
        self.sum.delete_spool()
        for blob_id in self._packed_blobs:
            self.blobs.delete(blob_id)
        self.sum, self.wire_assignments, self._packed_blobs, self._keep_sets, self._num_blocks = None, {}, set(), {}, 0

    def delete(self, blob_ids: set[str]) -> None:
        """Delete uploads, complete or not."""
        for blob_id in blob_ids:
            self.blobs.delete(blob_id)

    def devices_in(self, key: PartialId) -> set[str]:
        """Return the devices in a child's submission; none after its round."""
        partial = None if self.sum is None else self.sum.partials.get(key)
        return set() if partial is None else {outcome.device for outcome in partial.outcomes}

    def _opened(self, share: RoundShare) -> RoundSum:
        """Return the sum of the share's round; the first share of a round begins a new sum."""
        if self.sum is not None and self.sum.terms.round == share.round:
            return self.sum
        if self.sum is not None:
            self.forget(self.sum.terms.round)
        terms = RoundTerms(
            round=share.round,
            spec=share.spec.adapter,
            aggregator=make_aggregator(share.spec.aggregator),
            blobs=self.blobs,
            assignments={},
            unassigned=True,
        )
        self.sum = RoundSum(terms=terms)
        return self.sum

    def _read_adapter(self, current: RoundSum, widest: WireAssignment) -> None:
        """Read the adapter that devices fetch, or more ranks of it than an earlier share needed."""
        if len(widest.rank_blocks) > self._num_blocks:
            current.set_adapter(read_handout(self.blobs, widest.rank_blocks, widest.head))
            self._num_blocks = len(widest.rank_blocks)

    def _assignment(self, device: str, assignment: WireAssignment) -> Assignment:
        kept = self._keep_sets.get(assignment.keep_set.id)
        if kept is None:
            kept = self._keep_sets[assignment.keep_set.id] = read_keep_set(assignment, self.blobs)
        return from_wire(assignment, device=device, keep_set=kept)

    def _outcome(self, current: RoundSum, device: str, time_s: float) -> LeafOutcome:
        update = current.updates[device]
        submission = update.submission
        scores = submission.scores if submission is not None else None
        return LeafOutcome(
            device=device,
            counted=True,
            time_s=time_s,
            report=update.report,
            scores_bytes=0 if scores is None else scores.size,
            fold_s=current.fold_s.get(device, 0.0),
        )

    def _scores(
        self, current: RoundSum, order: Send, outcomes: tuple[LeafOutcome, ...]
    ) -> Iterator[bytes | memoryview]:
        """Yield the devices' group importances as they came, in the order of `outcomes`."""
        partials = [current.partials[key] for key in order.parts]
        below = {
            outcome.device: partial.scores[outcome.device]
            for partial in partials
            for outcome in partial.outcomes
            if outcome.scores_bytes
        }
        for outcome in outcomes:
            if not outcome.scores_bytes:
                continue
            submission = current.updates[outcome.device].submission
            if outcome.device in below:
                yield below[outcome.device].data
            elif submission is not None and submission.scores is not None:
                yield blob_payload(self.blobs, submission.scores, outcome.scores_bytes)

    def _put(self, chunks: Iterator[bytes | memoryview], name: str) -> BlobRef:
        """Store large data. Small data stays out of the store, because a device may have sent the very same bytes."""
        pieces: list[bytes | memoryview] = []
        size = 0
        for chunk in chunks:
            pieces.append(chunk)
            size += len(chunk)
            if size > INLINE_BYTES:
                blob_id = self.blobs.put_chunks(itertools.chain(pieces, chunks))
                self._packed_blobs.add(blob_id)
                return BlobRef(id=blob_id, size=self.blobs.size(blob_id), name=name)
        data = b"".join(pieces)
        return BlobRef(id=blob_name(data), size=size, name=name, inline=data)


def _failed(device: str, failure: AssignmentFailure | None) -> LeafOutcome:
    if failure is None:
        return LeafOutcome(device=device, counted=False, time_s=0.0)
    return LeafOutcome(
        device=device, counted=False, time_s=0.0, message=failure.message, out_of_memory=failure.out_of_memory
    )
