"""What a parent, coordinator or edge, has verified and summed up of one round. For one worker thread at a time."""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import DeviceReport, GroupScores
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import Refused, UpdateStack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.trained_part import ZeroFilled
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import PartialSubmission
from fedcore.protos.values import BlobRef, UpdateSubmission
from fedcore.server.aggregate.mapped_tensors import MappedTensors
from fedcore.server.aggregate.partials import ArrivedPartial, verify_part
from fedcore.server.aggregate.update_stacks import verified_stack
from fedcore.server.aggregate.uploads import verify
from fedcore.storage.blobs.store import BlobStore


@dataclass(slots=True, kw_only=True)
class Arrived:
    """A verified update. `scores` are None where none were asked for, `update` where it is in a sum for good."""

    report: DeviceReport
    scores: GroupScores | None
    update: Update | None = None
    submission: UpdateSubmission | None = None


@dataclass(slots=True, kw_only=True)
class RoundSum:
    """One round's sum and what went into it. `adapter` is the one handed out; only bundling aggregators need it."""

    round: int
    spec: AdapterSpec
    aggregator: Aggregator[Any]
    blobs: BlobStore
    assignments: dict[str, Assignment]
    adapter: Tensors | None = None
    clock: Callable[[], float] = time.perf_counter  # seconds, for `fold_s` and `aggregate_s` alone
    strangers: bool = False  # at an edge: partials may hold leaves without an assignment here; the root knows them
    partial: Any = None  # the sum so far, None at first
    arrived: dict[str, Arrived] = field(default_factory=dict)
    parts: dict[PartialId, ArrivedPartial] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)
    spool: set[str] = field(default_factory=set)  # blobs that go when the round is behind us
    aggregate_s: float = 0.0  # verifying and folding
    fold_s: dict[str, float] = field(default_factory=dict)  # the same by device

    def know(self, adapter: Tensors) -> None:
        """Take in the adapter that was handed out, or more ranks of it than were known."""
        self.adapter = adapter
        if self.partial is not None:
            # A leaf that nobody here could judge came in a part; if it turns out bad, the root refuses it.
            with suppress(UpdateRejected):
                self.partial = self.aggregator.merge(self.aggregator.start(self.spec, adapter), self.partial)

    def verify(self, device: str, submission: UpdateSubmission) -> None:
        """Check an uploaded update and hold it ready; raises UpdateRejected where it does not fit.

        One for another round, or of nobody's assignment, is not looked at: it is refused by rule.
        """
        assignment = self.assignments.get(device)
        if submission.round != self.round or assignment is None or self.has(device):
            return
        begin = self.clock()
        update, scores, submission = verify(submission, assignment, self.spec, self.blobs)
        _let_go(update)
        self.aggregator.check(self._sum(), update)  # before it counts: a fold that fails ends the run
        self.arrived[device] = Arrived(report=submission.report, scores=scores, update=update, submission=submission)
        self.spool |= _stored(submission.update, submission.scores)
        self._spent((device,), self.clock() - begin)

    def fold(self, device: str) -> None:
        """Add a device's verified update to the sum."""
        if device in self.folded:
            return
        begin = self.clock()
        held = self.arrived[device]
        if held.update is None:
            raise RuntimeError(f"{device}, round {self.round}: folded at an edge, cannot be folded here")
        self.partial = self.aggregator.fold(self._sum(), held.update)
        self.folded.add(device)
        if self.strangers:
            _let_go(held.update)  # an edge may have to fold it again
        else:
            held.update = None
        self._spent((device,), self.clock() - begin)

    def fold_stack(
        self, stack: UpdateStack, reports: Sequence[DeviceReport], scores: Sequence[GroupScores | None]
    ) -> Refused:
        """Check a stack of updates, add those that fit to the sum, and return the others with what is wrong.

        `reports` and `scores` stand in the order of the stack; scores nobody asked for are not looked at. For the root
        alone: an edge may have to fold an update again, and has none to go back to here.
        """
        begin = self.clock()
        fitting, refused = verified_stack(stack, reports, scores, self)
        told = dict(zip(stack.devices, zip(reports, scores, strict=True), strict=True))
        self.partial = self.aggregator.fold_stack(self._sum(), fitting)
        for device in fitting.devices:
            report, scored = told[device]
            self.arrived[device] = Arrived(report=report, scores=scored if self.assignments[device].score else None)
        self.folded.update(fitting.devices)
        seconds = self.clock() - begin
        self.aggregate_s += seconds
        self.fold_s |= dict.fromkeys(fitting.devices, seconds / max(1, len(fitting)))
        return refused

    def count(self, devices: Sequence[str], reports: Sequence[DeviceReport]) -> None:
        """Count devices whose updates are figures and no tensors: a simulation that trains nothing."""
        for device, report in zip(devices, reports, strict=True):
            self.arrived[device] = Arrived(report=report, scores=None)
        self.folded.update(devices)

    def verify_part(self, edge: str, submission: PartialSubmission) -> None:
        """Check an edge's partial and what it says of every leaf, and hold it ready; raises UpdateRejected."""
        part = PartialId(child=edge, number=submission.number)
        if submission.round != self.round:
            return
        if part in self.parts:
            if self.parts[part].leaves != submission.leaves:
                raise UpdateRejected(f"{edge}, round {self.round}: number {part.number} came with other leaves before")
            return
        begin = self.clock()
        self.parts[part] = verify_part(edge, submission, self)
        self.spool |= _stored(submission.partial, submission.scores)
        self.aggregate_s += self.clock() - begin

    def merge_part(self, part: PartialId) -> None:
        """Add a verified partial to the sum, and its leaves to those that arrived."""
        begin = self.clock()
        held = self.parts[part]
        if held.partial is not None:
            self.partial = self.aggregator.merge(self._sum(), held.partial())
            held.partial.let_go()
        for leaf in held.leaves:
            if leaf.report is not None:
                scored = held.scores.get(leaf.device)
                self.arrived[leaf.device] = Arrived(
                    report=leaf.report,
                    scores=None if scored is None else scored.scores,
                )
                self.folded.add(leaf.device)
                self.fold_s[leaf.device] = leaf.fold_s
        self.aggregate_s += self.clock() - begin

    def drop_part(self, part: PartialId) -> None:
        """Forget a partial that does not count."""
        self.parts.pop(part, None)

    def unfold(self) -> Any:
        """Return the sum and begin an empty one; who is in it may then be folded again."""
        partial, self.partial = self._sum(), None
        self.folded.clear()
        return partial

    def finished(self) -> Any:
        """Return the sum."""
        return self._sum()

    def delete_spool(self) -> None:
        """Delete what was sent for this round."""
        for blob_id in self.spool:
            self.blobs.delete(blob_id)

    def has(self, device: str) -> bool:
        """Whether its update is here; one that came in a partial is not, once that was taken out of the sum."""
        held = self.arrived.get(device)
        return held is not None and (held.update is not None or device in self.folded)

    def _sum(self) -> Any:
        if self.partial is None:
            self.partial = self.aggregator.start(self.spec, self.adapter)
        return self.partial

    def _spent(self, devices: Iterable[str], seconds: float) -> None:
        self.aggregate_s += seconds
        for device in devices:
            self.fold_s[device] = self.fold_s.get(device, 0.0) + seconds


def _stored(*refs: BlobRef | None) -> set[str]:
    """Those that lie in the store; the others came whole in their message."""
    return {ref.id for ref in refs if ref is not None and not ref.inline}


def _let_go(update: Update) -> None:
    sent = update.tensors.present if isinstance(update.tensors, ZeroFilled) else update.tensors
    if isinstance(sent, MappedTensors):
        sent.let_go()
