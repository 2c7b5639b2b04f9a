"""What an edge computes, on its one worker thread: verify, fold, merge, pack. Nothing here knows of streams."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.contract.assignment import Assignment
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.tier.commands import Send
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.convert.assignment import from_wire
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission, RoundShare
from fedcore.protos.values import BlobRef, UpdateSubmission, WireAssignment
from fedcore.protos.wire import INLINE_BYTES
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.aggregate.uploads import blob_payload
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.download import read_handout, read_keep_set


@dataclass(slots=True, kw_only=True)
class EdgeEngine:
    """The open round below one edge. Use from one thread at a time."""

    blobs: BlobStore
    tally: RoundSum | None = None
    wire_assignments: dict[str, WireAssignment] = field(default_factory=dict)
    _keep_sets: dict[str, KeepSet] = field(default_factory=dict)
    _blocks_known: int = 0  # rank blocks of the adapter in the tally
    _sent: set[str] = field(default_factory=set)  # packed blobs, kept until their round is behind us

    def share(self, share: RoundShare, assignments: Mapping[str, WireAssignment]) -> None:
        """Take a share in, its blobs being here: `assignments` with the bytes of small blobs inside."""
        if self.tally is None or self.tally.round != share.round:
            if self.tally is not None:
                self.forget(self.tally.round)
            aggregator = make_aggregator(share.spec.aggregator)
            self.tally = RoundSum(
                round=share.round,
                spec=share.spec.adapter,
                aggregator=aggregator,
                blobs=self.blobs,
                assignments={},
                strangers=True,
            )
        for device, assignment in assignments.items():
            self.wire_assignments[device] = assignment
            self.tally.assignments[device] = self._assignment(device, assignment)
        if self.tally.aggregator.kind == "bundling":
            self._know(self.tally, max(assignments.values(), key=lambda wide: len(wide.rank_blocks)))

    def verify(self, device: str, submission: UpdateSubmission) -> None:
        """Check an uploaded update and hold it ready; raises UpdateRejected where it does not fit."""
        if self.tally is not None:
            self.tally.verify(device, submission)

    def verify_part(self, child: str, submission: PartialSubmission) -> None:
        """Check a child's partial and hold it ready; raises UpdateRejected where it does not fit."""
        if self.tally is not None:
            self.tally.verify_part(child, submission)

    def fold(self, device: str) -> None:
        """Add a device's verified update to what goes up next."""
        if self.tally is not None:
            self.tally.fold(device)

    def merge_part(self, part: PartialId) -> None:
        """Add a child's verified partial to what goes up next."""
        if self.tally is not None:
            self.tally.merge_part(part)

    def pack(self, order: Send, times_s: Mapping[str, float], faults: Mapping[str, str]) -> PartialSubmission:
        """Return the submission `order` asks for, its blobs stored where they are large, and begin a new sum.

        `times_s`: seconds from pushed to verified of our own devices; `faults`: why a device does not count.
        """
        tally = self.tally
        if tally is None or tally.round != order.round:
            raise RuntimeError(f"round {order.round} is not open at this edge")
        below = [leaf for part in order.parts for leaf in tally.parts[part].leaves]
        counted = {leaf.device: leaf for leaf in below if leaf.counted}
        failed = {leaf.device: leaf for leaf in below if not leaf.counted}
        outcomes: dict[str, LeafOutcome] = {}
        for device in order.devices:
            outcomes[device] = counted.get(device) or self._outcome(tally, device, times_s[device])
        for device in order.failed:
            fault = LeafOutcome(device=device, counted=False, time_s=0.0, message=faults.get(device, ""))
            outcomes.setdefault(device, failed.get(device, fault))
        leaves = tuple(outcomes[device] for device in sorted(outcomes))
        partial = tally.unfold()
        scores = b"".join(self._scores(tally, order, leaves))
        return PartialSubmission(
            round=order.round,
            number=order.number,
            partial=self._put(tally.aggregator.pack(partial), "partial") if order.devices else None,
            scores=self._put(iter((scores,)), "scores") if scores else None,
            leaves=leaves,
        )

    def drop_part(self, part: PartialId) -> None:
        """Forget a child's partial: it was answered."""
        if self.tally is not None:
            self.tally.drop_part(part)

    def forget(self, number: int) -> None:
        """A round is behind us: what was spooled for it goes."""
        if self.tally is None or self.tally.round != number:
            return
        self.tally.delete_spool()
        for blob_id in self._sent:
            self.blobs.delete(blob_id)
        self.tally, self.wire_assignments, self._sent, self._keep_sets, self._blocks_known = None, {}, set(), {}, 0

    def delete(self, blob_ids: set[str]) -> None:
        """Delete uploads, whole or broken off."""
        for blob_id in blob_ids:
            self.blobs.delete(blob_id)

    def leaves(self, part: PartialId) -> set[str]:
        """Devices a child's submission speaks of; none once its round is behind us."""
        held = None if self.tally is None else self.tally.parts.get(part)
        return set() if held is None else {leaf.device for leaf in held.leaves}

    def _know(self, tally: RoundSum, widest: WireAssignment) -> None:
        """Read the adapter that was handed out, or more ranks of it than an earlier share brought."""
        if len(widest.rank_blocks) > self._blocks_known:
            tally.know(read_handout(self.blobs, widest.rank_blocks, widest.head))
            self._blocks_known = len(widest.rank_blocks)

    def _assignment(self, device: str, assignment: WireAssignment) -> Assignment:
        kept = self._keep_sets.get(assignment.keep_set.id)
        if kept is None:
            kept = self._keep_sets[assignment.keep_set.id] = read_keep_set(assignment, self.blobs)
        return from_wire(assignment, device=device, keep_set=kept)

    def _outcome(self, tally: RoundSum, device: str, time_s: float) -> LeafOutcome:
        arrived = tally.arrived[device]
        submission = arrived.submission
        scores = submission.scores if submission is not None else None
        return LeafOutcome(
            device=device,
            counted=True,
            time_s=time_s,
            report=arrived.report,
            scores_bytes=0 if scores is None else scores.size,
            fold_s=tally.fold_s.get(device, 0.0),
        )

    def _scores(self, tally: RoundSum, order: Send, leaves: tuple[LeafOutcome, ...]) -> Iterator[bytes | memoryview]:
        """The leaves' group importances as they came, in order."""
        parts = [tally.parts[part] for part in order.parts]
        below = {leaf.device: part.scores[leaf.device] for part in parts for leaf in part.leaves if leaf.scores_bytes}
        for leaf in leaves:
            if not leaf.scores_bytes:
                continue
            submission = tally.arrived[leaf.device].submission
            if leaf.device in below:
                yield below[leaf.device].data
            elif submission is not None and submission.scores is not None:
                yield blob_payload(tally.blobs, submission.scores, leaf.scores_bytes)

    def _put(self, chunks: Iterator[bytes | memoryview], name: str) -> BlobRef:
        """Store what is large. What is small stays out of the store: a device may have sent the very same bytes."""
        held: list[bytes | memoryview] = []
        size = 0
        for chunk in chunks:
            held.append(chunk)
            size += len(chunk)
            if size > INLINE_BYTES:
                blob_id = self.blobs.put_chunks(itertools.chain(held, chunks))
                self._sent.add(blob_id)
                return BlobRef(id=blob_id, size=self.blobs.size(blob_id), name=name)
        data = b"".join(held)
        return BlobRef(id=blob_name(data), size=size, name=name, inline=data)
