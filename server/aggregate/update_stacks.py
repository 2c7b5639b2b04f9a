"""Updates that came as a stack, out of this process: each held against its assignment before any of it is counted."""

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
    """Return what may be counted of a stack, verified, and why the others may not; raises ValueError for other lengths.

    The rules are those for an upload, and a device's own assignment under `terms` decides. `partial` is the round's sum
    so far, which is left as it is, `counted` the devices in it.
    """
    if not len(stack) == len(reports) == len(scores):
        raise ValueError(f"a stack of {len(stack)} with {len(reports)} reports and {len(scores)} scores")
    if len(set(stack.devices)) < len(stack):
        raise ValueError("a stack holds every device once")
    refused: dict[str, str] = {}
    for index, device in enumerate(stack.devices):
        who = f"update of {device} for round {stack.round}"
        try:
            assignment = _assignment(stack, device, terms, counted, who)
            _check_asked(stack, index, assignment, who)
            _check_measured(reports[index], scores[index], assignment, who)
        except UpdateRejected as cause:
            refused[device] = str(cause)
    fitting, misfits = verify_stack(_without(stack, refused), terms.spec)
    refused |= dict(misfits)
    if terms.aggregator.kind == "bundling":  # a reducing one folds whatever was verified
        bulky = _too_bulky(fitting, terms, partial)
        fitting, refused = _without(fitting, bulky), refused | bulky
    return fitting, tuple(refused.items())


def _assignment(stack: UpdateStack, device: str, terms: RoundTerms, counted: Collection[str], who: str) -> Assignment:
    assignment = terms.assignments.get(device)
    if stack.round != terms.round or assignment is None:
        raise UpdateRejected(f"{who}: no open assignment asks for it")
    if device in counted:
        raise UpdateRejected(f"{who}: it is counted already")
    return assignment


def _check_asked(stack: UpdateStack, index: int, assignment: Assignment, who: str) -> None:
    """Raise UpdateRejected where weight, rank, keep-set or trained part are not those assigned."""
    asked = assignment.weight, assignment.arm.rank, assignment.keep_set.counts
    got = stack.weights[index], stack.rank, stack.keep_set.counts
    if asked != got or (stack.keep_set is not assignment.keep_set and stack.keep_set != assignment.keep_set):
        raise UpdateRejected(f"{who}: expected weight, rank and counts {asked}, got {got}, or another keep-set")
    if stack.trains != assignment.training.trains:
        raise UpdateRejected(f"{who}: expected increments of {assignment.training.trains}, got {stack.trains}")


def _check_measured(report: DeviceReport, scores: GroupScores | None, assignment: Assignment, who: str) -> None:
    check_report(report, who)
    if assignment.score:
        if scores is None:
            raise UpdateRejected(f"{who}: group importances were asked for and are missing")
        verify_scores(scores, assignment.keep_set)


def _without(stack: UpdateStack, refused: Mapping[str, str]) -> UpdateStack:
    if not refused:
        return stack
    return stack.select([index for index, device in enumerate(stack.devices) if device not in refused])


def _too_bulky(stack: UpdateStack, terms: RoundTerms, partial: Any) -> dict[str, str]:
    """Return the devices whose update a bundling aggregator would refuse, and why."""
    refused = {}
    for index, device in enumerate(stack.devices):
        try:
            terms.aggregator.check(partial, stack.update(index))
        except UpdateRejected as cause:
            refused[device] = str(cause)
    return refused
