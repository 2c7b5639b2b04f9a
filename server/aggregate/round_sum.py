"""One round's sum at a parent (coordinator or edge), with the updates that it verified. For one thread at a time."""

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
    """A verified update. `scores` is None if the assignment asked for none, `update` if it is in a sum for good."""

    report: DeviceReport
    scores: GroupScores | None
    update: Update | None = None
    submission: UpdateSubmission | None = None


@dataclass(slots=True, kw_only=True)
class RoundSum:
    """One round's sum and everything in it, all of it verified against `terms`."""

    terms: RoundTerms
    clock: Callable[[], float] = time.perf_counter  # seconds, for `fold_s` and `aggregate_s` alone
    partial: Any = None  # the sum so far, None at first
    updates: dict[str, VerifiedUpdate] = field(default_factory=dict)  # by device, also of devices in a partial
    partials: dict[PartialId, VerifiedPartial] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)  # devices with an update in the sum
    spool: set[str] = field(default_factory=set)  # blobs to delete after the round
    aggregate_s: float = 0.0  # verifying and folding
    fold_s: dict[str, float] = field(default_factory=dict)  # the same by device

    def assign(self, assignments: Mapping[str, Assignment]) -> None:
        """Add devices to the round: an edge learns of them share by share."""
        self.terms = replace(self.terms, assignments={**self.terms.assignments, **assignments})

    def set_adapter(self, adapter: Tensors) -> None:
        """Set the adapter that devices fetched, or more ranks of it than before."""
        self.terms = replace(self.terms, adapter=adapter)
        if self.partial is not None:
            aggregator, spec = self.terms.aggregator, self.terms.spec
            # A partial may hold an update that nothing here could check; if it does not fit, the root refuses it.
            with suppress(UpdateRejected):
                self.partial = aggregator.merge(aggregator.start(spec, adapter), self.partial)

    def verify(self, device: str, submission: UpdateSubmission) -> None:
        """Verify an uploaded update and keep it until `fold`; raises UpdateRejected if it does not fit.

        An update for another round, or of a device without an assignment, is not verified: the round machine refuses
        it.
        """
        assignment = self.terms.assignments.get(device)
        if submission.round != self.terms.round or assignment is None or self.has(device):
            return
        begin = self.clock()
        update, scores, submission = verify_upload(submission, assignment, self.terms)
        _release_pages(update)
        self.terms.aggregator.check(self.total(), update)  # now, because a fold that fails ends the run
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
        """Verify a stack of updates, add those that fit to the sum, and return the others with the reasons.

        `reports` and `scores` are in the order of the stack; scores that no assignment asks for are ignored. The round
        machine must accept every device that is not returned. For the root alone: an edge may have to fold an update
        again, and a stack keeps no update for that.
        """
        begin = self.clock()
        counted = {device for device in stack.devices if self.has(device)}
        fitting, refused = verified_stack(
            stack, reports, scores, terms=self.terms, counted=counted, partial=self.total()
        )
        self.partial = self.terms.aggregator.fold_stack(self.total(), fitting)
        fitted = set(fitting.devices)
        for device, report, device_scores in zip(stack.devices, reports, scores, strict=True):
            if device in fitted:
                wanted = self.terms.assignments[device].score
                self.updates[device] = VerifiedUpdate(report=report, scores=device_scores if wanted else None)
        self.folded |= fitted
        seconds = self.clock() - begin
        self.aggregate_s += seconds
        self.fold_s |= dict.fromkeys(fitting.devices, seconds / max(1, len(fitting)))
        return refused

    def count(self, devices: Sequence[str], reports: Sequence[DeviceReport]) -> None:
        """Count devices that report figures and no tensors, in a simulation that trains nothing."""
        for device, report in zip(devices, reports, strict=True):
            self.updates[device] = VerifiedUpdate(report=report, scores=None)
        self.folded.update(devices)

    def verify_partial(self, edge: str, submission: PartialSubmission) -> None:
        """Verify an edge's partial with the outcome of every device in it; raises UpdateRejected if it does not fit.

        The partial then waits for `merge_partial`. A partial for another round is not verified.
        """
        number, round_index = submission.number, self.terms.round
        key = PartialId(child=edge, number=number)
        if submission.round != round_index:
            return
        if key in self.partials:
            if self.partials[key].outcomes != submission.leaves:
                raise UpdateRejected(f"{edge}, round {round_index}: number {number} came with other leaves before")
            return
        begin = self.clock()
        self.partials[key] = verify_partial(edge, submission, self.terms, self.partials.values())
        self.spool |= _stored(submission.partial, submission.scores)
        self.aggregate_s += self.clock() - begin

    def merge_partial(self, key: PartialId) -> None:
        """Add a verified partial to the sum, and its devices' reports to `updates`."""
        begin = self.clock()
        verified = self.partials[key]
        if verified.partial is not None:
            self.partial = self.terms.aggregator.merge(self.total(), verified.partial())
            verified.partial.release_pages()
        for outcome in verified.outcomes:
            if outcome.report is not None:
                received = verified.scores.get(outcome.device)
                scores = None if received is None else received.scores
                self.updates[outcome.device] = VerifiedUpdate(report=outcome.report, scores=scores)
                self.folded.add(outcome.device)
                self.fold_s[outcome.device] = outcome.fold_s
        self.aggregate_s += self.clock() - begin

    def drop_partial(self, key: PartialId) -> None:
        """Forget a partial that does not count."""
        self.partials.pop(key, None)

    def unfold(self) -> Any:
        """Return the sum and begin an empty one; the updates in the returned sum may then be folded again."""
        partial, self.partial = self.total(), None
        self.folded.clear()
        return partial

    def total(self) -> Any:
        """Return the sum so far; the next fold or merge consumes it."""
        if self.partial is None:
            self.partial = self.terms.aggregator.start(self.terms.spec, self.terms.adapter)
        return self.partial

    def delete_spool(self) -> None:
        """Delete the blobs that were sent for this round."""
        for blob_id in self.spool:
            self.terms.blobs.delete(blob_id)

    def has(self, device: str) -> bool:
        """Whether a device's update is here. After `unfold`, an update that came in a partial is not here any more."""
        verified = self.updates.get(device)
        return verified is not None and (verified.update is not None or device in self.folded)

    def _add_time(self, device: str, seconds: float) -> None:
        self.aggregate_s += seconds
        self.fold_s[device] = self.fold_s.get(device, 0.0) + seconds


def _stored(*refs: BlobRef | None) -> set[str]:
    """Return the ids of those blobs that are in the store; the bytes of the others came inside a message."""
    return {ref.id for ref in refs if ref is not None and not ref.inline}


def _release_pages(update: Update) -> None:
    tensors = update.tensors.present if isinstance(update.tensors, ZeroFilled) else update.tensors
    if isinstance(tensors, MappedTensors):
        tensors.release_pages()
