"""What a parent, coordinator or edge, has verified and summed up of one round. For one worker thread at a time."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import DeviceReport, GroupScores
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import Refused, UpdateStack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.trained_part import ZeroFilled
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import PartialSubmission
from fedcore.protos.values import BlobRef, UpdateSubmission
from fedcore.server.aggregate.mapped_tensors import MappedTensors
from fedcore.server.aggregate.partials import VerifiedPartial, verify_partial
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.server.aggregate.update_stacks import verified_stack
from fedcore.server.aggregate.uploads import verify_upload


@dataclass(slots=True, kw_only=True)
class VerifiedUpdate:
    """A verified update. `scores` are None where none were asked for, `update` where it is in a sum for good."""

    report: DeviceReport
    scores: GroupScores | None
    update: Update | None = None
    submission: UpdateSubmission | None = None


@dataclass(slots=True, kw_only=True)
class RoundSum:
    """One round's sum and what went into it, all of it held against `terms`."""

    terms: RoundTerms
    clock: Callable[[], float] = time.perf_counter  # seconds, for `fold_s` and `aggregate_s` alone
    partial: Any = None  # the sum so far, None at first
    updates: dict[str, VerifiedUpdate] = field(default_factory=dict)  # by device, also those that came in partials
    partials: dict[PartialId, VerifiedPartial] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)  # devices whose update is in the sum
    spool: set[str] = field(default_factory=set)  # blobs that go when the round is behind us
    aggregate_s: float = 0.0  # verifying and folding
    fold_s: dict[str, float] = field(default_factory=dict)  # the same by device

    def assign(self, assignments: Mapping[str, Assignment]) -> None:
        """Add devices to the round: an edge hears of them share by share."""
        self.terms = replace(self.terms, assignments={**self.terms.assignments, **assignments})

    def set_adapter(self, adapter: Tensors) -> None:
        """Take in the adapter that was handed out, or more ranks of it than were known."""
        self.terms = replace(self.terms, adapter=adapter)
        if self.partial is not None:
            aggregator, spec = self.terms.aggregator, self.terms.spec
            # An update that could not be checked here came in a partial; if it turns out bad, the root refuses it.
            with suppress(UpdateRejected):
                self.partial = aggregator.merge(aggregator.start(spec, adapter), self.partial)

    def verify(self, device: str, submission: UpdateSubmission) -> None:
        """Check an uploaded update and hold it ready; raises UpdateRejected where it does not fit.

        One for another round, or of a device without an assignment, is not looked at: it is refused by rule.
        """
        assignment = self.terms.assignments.get(device)
        if submission.round != self.terms.round or assignment is None or self.has(device):
            return
        begin = self.clock()
        update, scores, submission = verify_upload(submission, assignment, self.terms)
        _release_pages(update)
        self.terms.aggregator.check(self.total(), update)  # before it counts: a fold that fails ends the run
        self.updates[device] = VerifiedUpdate(
            report=submission.report, scores=scores, update=update, submission=submission
        )
        self.spool |= _stored(submission.update, submission.scores)
        self._add_time(device, self.clock() - begin)

    def fold(self, device: str) -> None:
        """Add a device's verified update to the sum."""
        if device in self.folded:
            return
        begin = self.clock()
        verified = self.updates[device]
        if verified.update is None:
            raise RuntimeError(f"{device}, round {self.terms.round}: folded at an edge, cannot be folded here")
        self.partial = self.terms.aggregator.fold(self.total(), verified.update)
        self.folded.add(device)
        if self.terms.unassigned:
            _release_pages(verified.update)  # an edge may have to fold it again
        else:
            verified.update = None
        self._add_time(device, self.clock() - begin)

    def fold_stack(
        self, stack: UpdateStack, reports: Sequence[DeviceReport], scores: Sequence[GroupScores | None]
    ) -> Refused:
        """Check a stack of updates, add those that fit to the sum, and return the others with what is wrong.

        `reports` and `scores` stand in the order of the stack; scores that were not asked for are not looked at. The
        round machine must accept every device that is not returned. For the root alone: an edge may have to fold an
        update again, and has none to go back to here.
        """
        begin = self.clock()
        counted = {device for device in stack.devices if self.has(device)}
        fitting, refused = verified_stack(
            stack, reports, scores, terms=self.terms, counted=counted, partial=self.total()
        )
        self.partial = self.terms.aggregator.fold_stack(self.total(), fitting)
        fitted = set(fitting.devices)
        for device, report, scored in zip(stack.devices, reports, scores, strict=True):
            if device in fitted:
                asked = self.terms.assignments[device].score
                self.updates[device] = VerifiedUpdate(report=report, scores=scored if asked else None)
        self.folded |= fitted
        seconds = self.clock() - begin
        self.aggregate_s += seconds
        self.fold_s |= dict.fromkeys(fitting.devices, seconds / max(1, len(fitting)))
        return refused

    def count(self, devices: Sequence[str], reports: Sequence[DeviceReport]) -> None:
        """Count devices whose updates are figures and no tensors: a simulation that trains nothing."""
        for device, report in zip(devices, reports, strict=True):
            self.updates[device] = VerifiedUpdate(report=report, scores=None)
        self.folded.update(devices)

    def verify_partial(self, edge: str, submission: PartialSubmission) -> None:
        """Check an edge's partial and what it says of every leaf, and hold it ready; raises UpdateRejected."""
        number, round_index = submission.number, self.terms.round
        key = PartialId(child=edge, number=number)
        if submission.round != round_index:
            return
        if key in self.partials:
            if self.partials[key].leaves != submission.leaves:
                raise UpdateRejected(f"{edge}, round {round_index}: number {number} came with other leaves before")
            return
        begin = self.clock()
        self.partials[key] = verify_partial(edge, submission, self.terms, self.partials.values())
        self.spool |= _stored(submission.partial, submission.scores)
        self.aggregate_s += self.clock() - begin

    def merge_partial(self, key: PartialId) -> None:
        """Add a verified partial to the sum, and its leaves to those that arrived."""
        begin = self.clock()
        verified = self.partials[key]
        if verified.partial is not None:
            self.partial = self.terms.aggregator.merge(self.total(), verified.partial())
            verified.partial.release_pages()
        for leaf in verified.leaves:
            if leaf.report is not None:
                received = verified.scores.get(leaf.device)
                scores = None if received is None else received.scores
                self.updates[leaf.device] = VerifiedUpdate(report=leaf.report, scores=scores)
                self.folded.add(leaf.device)
                self.fold_s[leaf.device] = leaf.fold_s
        self.aggregate_s += self.clock() - begin

    def drop_partial(self, key: PartialId) -> None:
        """Forget a partial that does not count."""
        self.partials.pop(key, None)

    def unfold(self) -> Any:
        """Return the sum and begin an empty one; updates that are in it may then be folded again."""
        partial, self.partial = self.total(), None
        self.folded.clear()
        return partial

    def total(self) -> Any:
        """Return the sum so far, which the next fold or merge uses up."""
        if self.partial is None:
            self.partial = self.terms.aggregator.start(self.terms.spec, self.terms.adapter)
        return self.partial

    def delete_spool(self) -> None:
        """Delete what was sent for this round."""
        for blob_id in self.spool:
            self.terms.blobs.delete(blob_id)

    def has(self, device: str) -> bool:
        """Whether its update is here; one that came in a partial is not, once that was taken out of the sum."""
        verified = self.updates.get(device)
        return verified is not None and (verified.update is not None or device in self.folded)

    def _add_time(self, device: str, seconds: float) -> None:
        self.aggregate_s += seconds
        self.fold_s[device] = self.fold_s.get(device, 0.0) + seconds


def _stored(*refs: BlobRef | None) -> set[str]:
    """Return the ids of those blobs that lie in the store; the others came whole in their message."""
    return {ref.id for ref in refs if ref is not None and not ref.inline}


def _release_pages(update: Update) -> None:
    sent = update.tensors.present if isinstance(update.tensors, ZeroFilled) else update.tensors
    if isinstance(sent, MappedTensors):
        sent.release_pages()
