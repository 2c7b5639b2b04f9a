"""Updates that came as a stack, out of this process: each held against its assignment before any of it is counted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedcore.core.contract.outcome import DeviceReport, GroupScores
from fedcore.core.contract.update_stack import Refused, UpdateStack, verify_stack
from fedcore.core.errors import UpdateRejected
from fedcore.core.pruning.score_check import verify_scores
from fedcore.server.aggregate.uploads import check_report

if TYPE_CHECKING:
    from fedcore.server.aggregate.round_sum import RoundSum


def verified_stack(
    stack: UpdateStack, reports: Sequence[DeviceReport], scores: Sequence[GroupScores | None], tally: "RoundSum"
) -> tuple[UpdateStack, Refused]:
    """Return what may be counted of a stack, verified, and why the others may not; raises ValueError for other lengths.

    The rules are those for an upload, and a device's own assignment of the open round decides.
    """
    if not len(stack) == len(reports) == len(scores):
        raise ValueError(f"a stack of {len(stack)} with {len(reports)} reports and {len(scores)} scores")
    if len(set(stack.devices)) < len(stack):
        raise ValueError("a stack holds every device once")
    refused: dict[str, str] = {}
    for index, device in enumerate(stack.devices):
        try:
            _check(stack, index, reports[index], scores[index], tally)
        except UpdateRejected as cause:
            refused[device] = str(cause)
    fitting, misfits = verify_stack(_without(stack, refused), tally.spec)
    refused |= dict(misfits)
    if tally.aggregator.kind == "bundling":  # a reducing one folds whatever was verified
        bulky = _too_bulky(fitting, tally)
        fitting, refused = _without(fitting, bulky), refused | bulky
    return fitting, tuple(refused.items())


def _check(stack: UpdateStack, index: int, report: DeviceReport, scores: GroupScores | None, tally: "RoundSum") -> None:
    device = stack.devices[index]
    assignment = tally.assignments.get(device)
    who = f"update of {device} for round {stack.round}"
    if stack.round != tally.round or assignment is None:
        raise UpdateRejected(f"{who}: no open assignment asks for it")
    if tally.has(device):
        raise UpdateRejected(f"{who}: it is counted already")
    asked = assignment.weight, assignment.arm.rank, assignment.keep_set.counts
    got = stack.weights[index], stack.rank, stack.keep_set.counts
    if asked != got or (stack.keep_set is not assignment.keep_set and stack.keep_set != assignment.keep_set):
        raise UpdateRejected(f"{who}: expected weight, rank and counts {asked}, got {got}, or another keep-set")
    if stack.trains != assignment.training.trains:
        raise UpdateRejected(f"{who}: expected increments of {assignment.training.trains}, got {stack.trains}")
    check_report(report, who)
    if assignment.score:
        if scores is None:
            raise UpdateRejected(f"{who}: group importances were asked for and are missing")
        verify_scores(scores, assignment.keep_set)


def _without(stack: UpdateStack, refused: dict[str, str]) -> UpdateStack:
    if not refused:
        return stack
    return stack.select([index for index, device in enumerate(stack.devices) if device not in refused])


def _too_bulky(stack: UpdateStack, tally: "RoundSum") -> dict[str, str]:
    """Return whose update a bundling aggregator would refuse, and why."""
    refused = {}
    for index, device in enumerate(stack.devices):
        try:
            tally.aggregator.check(tally.finished(), stack.update(index))
        except UpdateRejected as cause:
            refused[device] = str(cause)
    return refused
