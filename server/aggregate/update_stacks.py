"""Verify a stack of updates from this process: every device's against its assignment, before any of them counts."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.outcome import DeviceReport, GroupScores
from fedcore.core.contract.update_stack import Refused, UpdateStack, verify_stack
from fedcore.core.errors import UpdateRejected
from fedcore.core.pruning.score_check import verify_scores
from fedcore.server.aggregate.round_terms import RoundTerms
from fedcore.server.aggregate.uploads import check_report


def verified_stack(
    stack: UpdateStack,
    reports: Sequence[DeviceReport],
    scores: Sequence[GroupScores | None],
    *,
    terms: RoundTerms,
    counted: Collection[str],
    partial: Any,
) -> tuple[UpdateStack, Refused]:
    """Return the updates of a stack that fit, and the reason for every other; raises ValueError for unequal lengths.

    The rules are those for an upload: a device's own assignment under `terms` decides. `partial` is the round's sum so
    far, which stays as it is, and `counted` the devices in it.
    """
    if not len(stack) == len(reports) == len(scores):
        raise ValueError(f"a stack of {len(stack)} with {len(reports)} reports and {len(scores)} scores")
    if len(set(stack.devices)) < len(stack):
        raise ValueError("a stack holds every device once")
    refused: dict[str, str] = {}
    for index, device in enumerate(stack.devices):
        subject = f"update of {device} for round {stack.round}"
        try:
            assignment = _assignment(stack, device, terms, counted, subject)
            _check_assigned(stack, index, assignment, subject)
            _check_measured(reports[index], scores[index], assignment, subject)
        except UpdateRejected as cause:
            refused[device] = str(cause)
    fitting, misfits = verify_stack(_without(stack, refused), terms.spec)
    refused |= dict(misfits)
    if terms.aggregator.kind == "bundling":  # a reducing aggregator folds every verified update
        bulky = _too_bulky(fitting, terms, partial)
        fitting, refused = _without(fitting, bulky), refused | bulky
    return fitting, tuple(refused.items())


def _assignment(
    stack: UpdateStack, device: str, terms: RoundTerms, counted: Collection[str], subject: str
) -> Assignment:
    assignment = terms.assignments.get(device)
    if stack.round != terms.round or assignment is None:
        raise UpdateRejected(f"{subject}: no open assignment asks for it")
    if device in counted:
        raise UpdateRejected(f"{subject}: it is counted already")
    return assignment


def _check_assigned(stack: UpdateStack, index: int, assignment: Assignment, subject: str) -> None:
    """Raise UpdateRejected if weight, rank, keep-set or trained part differ from the assignment."""
    expected = assignment.weight, assignment.arm.rank, assignment.keep_set.counts
    got = stack.weights[index], stack.rank, stack.keep_set.counts
    if expected != got or (stack.keep_set is not assignment.keep_set and stack.keep_set != assignment.keep_set):
        raise UpdateRejected(f"{subject}: expected weight, rank and counts {expected}, got {got}, or another keep-set")
    if stack.trains != assignment.training.trains:
        raise UpdateRejected(f"{subject}: expected increments of {assignment.training.trains}, got {stack.trains}")


def _check_measured(report: DeviceReport, scores: GroupScores | None, assignment: Assignment, subject: str) -> None:
    check_report(report, subject)
    if assignment.score:
        if scores is None:
            raise UpdateRejected(f"{subject}: group importances were asked for and are missing")
        verify_scores(scores, assignment.keep_set)


def _without(stack: UpdateStack, refused: Mapping[str, str]) -> UpdateStack:
    if not refused:
        return stack
    return stack.select([index for index, device in enumerate(stack.devices) if device not in refused])


def _too_bulky(stack: UpdateStack, terms: RoundTerms, partial: Any) -> dict[str, str]:
    """Return the devices with an update that a bundling aggregator would refuse, and the reasons."""
    refused = {}
    for index, device in enumerate(stack.devices):
        try:
            terms.aggregator.check(partial, stack.update(index))
        except UpdateRejected as cause:
            refused[device] = str(cause)
    return refused
