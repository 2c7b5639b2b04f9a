"""Partials at an edge's machine: those that child edges submit, and their fate once they are passed on.

Theory of operation. A partial is a sum of the updates of many devices, and it cannot be taken apart. So it counts whole
or not at all, and a device must never be in two sums that both count. A device can end up in two sums: if it loses its
edge, it sends its update again through another edge. An edge sees this for devices that it knows, the root for all.

A child's partial passes through these states:

    PartialArrived -> claimed --nothing of it is here--> merged --sent up--> answered as the tier above answered
                         |                                  '--OVERLAP above, with a device of it--> back to the child
                         |--a device of it counts already--> answered OVERLAP
                         '--its round is over--> answered LATE

- Claimed (`state.claims`): it waits for its round to begin here, or for the answer on a copy of one of its devices that
  is here already. The copy may still be refused above, so the partial can neither be merged nor refused before.
  Meanwhile the edge does not wait for its devices: they have answered.
- Merged (`state.parts`): its devices are FOLDED and point to it, and it goes up with the next submission.
- Answered (`state.answers`): the same number gets the same answer again, because the first one may be lost. The answer
  of the tier above is passed down unchanged; an OVERLAP is passed down with only the devices that the child's partial
  contains. The child then submits the rest under a new number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from fedcore.core.rounds.tier.commands import Acknowledge, AnswerChild, Command, Fold, MergePartial, Push
from fedcore.core.rounds.tier.events import PartialArrived
from fedcore.core.rounds.tier.state import Claim, Decision, PartialId, RelayedDevice, Stage, Submission, TierState

Step = tuple[TierState, tuple[Command, ...]]

HERE = (Stage.FOLDED, Stage.SENT)  # stages with the update here, without an answer from above
AWAITED = (Stage.PENDING, Stage.ABSENT)  # stages with an update that may still come


def partial_arrived(state: TierState, event: PartialArrived) -> Step:
    """Claim a partial of this round or a later one, for `review` to look at; answer any other."""
    part = PartialId(child=event.child, number=event.number)
    if event.round < max(1, state.round):
        return state, (AnswerChild(part=part, round=event.round, decision=Decision.LATE),)
    if event.round == state.round and part in state.answers:
        decision, devices = state.answers[part]
        return state, (AnswerChild(part=part, round=event.round, decision=decision, devices=devices),)
    if part in state.parts or part in state.claims:
        return state, ()  # the answer to the first copy answers this one
    claim = Claim(round=event.round, counted=event.counted, failed=event.failed)
    return replace(state, claims={**state.claims, part: claim}), ()


def review(state: TierState) -> Step:
    """Decide on the claims of this round, in the order of arrival: each decision may decide the next one."""
    out: tuple[Command, ...] = ()
    for part, claim in state.claims.items():
        if claim.round == state.round:
            state, decision = _decide(state, part, claim)
            out += decision
    return state, out


def _decide(state: TierState, part: PartialId, claim: Claim) -> Step:
    stages = {device: state.devices[device].stage for device in claim.counted if device in state.devices}
    counted = tuple(sorted(device for device, stage in stages.items() if stage is Stage.COUNTED))
    if counted or state.over:
        decision = Decision.OVERLAP if counted else Decision.LATE
        answer = AnswerChild(part=part, round=claim.round, decision=decision, devices=counted)
        return with_answers(state, [answer]), (answer,)
    if any(stage in HERE for stage in stages.values()):
        return state, ()  # nothing is acknowledged below before it is acknowledged above
    return _merged(state, part, claim), (MergePartial(part=part),)


def _merged(state: TierState, part: PartialId, claim: Claim) -> TierState:
    devices = dict(state.devices)
    for device in claim.counted:
        # A device that was never shared here belongs to its child: the edge never waits for it, even if the partial
        # goes back.
        relayed = devices.get(device)
        absent = relayed is None or relayed.absent or relayed.stage is Stage.ABSENT
        devices[device] = RelayedDevice(stage=Stage.FOLDED, part=part, absent=absent)
    for device in claim.failed:
        if device not in devices or devices[device].stage in AWAITED:
            devices[device] = RelayedDevice(stage=Stage.FAILED)
    undecided = {claimed: waiting for claimed, waiting in state.claims.items() if claimed != part}
    return replace(state, devices=devices, parts={**state.parts, part: claim.counted}, claims=undecided)


def settle(state: TierState, submission: Submission, decision: Decision) -> Step:
    """Pass the decision on a whole submission on to every device and child in it."""
    stage = Stage.COUNTED if decision is Decision.ACCEPTED else Stage.REFUSED
    acknowledged = acknowledgements(state, submission.devices, decision)
    answers = [AnswerChild(part=part, round=state.round, decision=decision) for part in submission.parts]
    return with_answers(with_stage(state, submission.devices, stage), answers), (*acknowledged, *answers)


def take_apart(state: TierState, submission: Submission, counted: frozenset[str]) -> Step:
    """Fold again the updates that the root has not `counted`; a partial with a counted device goes back to its child.

    The edge waits again for the devices of such a partial that are still here. A device that moved here since has a new
    parent that does not know its assignment, so the assignment is pushed again. A device that left is left to its
    child.
    """
    back = {part: counted & set(state.parts[part]) for part in submission.parts if counted & set(state.parts[part])}
    answers = [
        AnswerChild(part=part, round=state.round, decision=Decision.OVERLAP, devices=tuple(sorted(overlap)))
        for part, overlap in back.items()
    ]
    returned = sorted({device for part in back for device in state.parts[part]} - counted)
    awaited = tuple(device for device in returned if not state.devices[device].absent)
    decided = tuple(device for device in submission.devices if device in counted)
    again = tuple(device for device in submission.devices if device not in counted and device not in returned)
    direct = tuple(device for device in again if state.devices[device].part is None)
    acknowledged = acknowledgements(state, decided, Decision.ACCEPTED)
    state = move(state, again, Stage.FOLDED)
    state = with_stage(state, decided, Stage.COUNTED)
    state = with_stage(state, returned, Stage.ABSENT)
    state = with_stage(state, awaited, Stage.PENDING)
    failures = state.reported_failures - set(submission.failed)
    return replace(with_answers(state, answers), reported_failures=failures), (
        *acknowledged,
        *answers,
        *(Push(device=device, round=state.round) for device in awaited),
        *(Fold(device=device, round=state.round) for device in direct),
        *(MergePartial(part=part) for part in submission.parts if part not in back),
    )


def acknowledgements(state: TierState, devices: Iterable[str], decision: Decision) -> tuple[Acknowledge, ...]:
    """Return the decision for those of these devices that sent their update here themselves."""
    relayed_devices = ((device, state.devices[device]) for device in devices)
    return tuple(
        Acknowledge(device=device, round=state.round, decision=decision)
        for device, relayed in relayed_devices
        if relayed.part is None or relayed.offered_copy
    )


def with_answers(state: TierState, answers: Sequence[AnswerChild]) -> TierState:
    """Return the state with these answers; their partials are decided."""
    decisions = {answer.part: (answer.decision, answer.devices) for answer in answers}
    return replace(
        state,
        parts={part: devices for part, devices in state.parts.items() if part not in decisions},
        claims={part: claim for part, claim in state.claims.items() if part not in decisions},
        answers={**state.answers, **decisions},
    )


def with_stage(state: TierState, devices: Iterable[str], stage: Stage) -> TierState:
    """Return the state with these devices at a stage at which no update of theirs is here."""
    return replace(state, devices={**state.devices, **{device: RelayedDevice(stage=stage) for device in devices}})


def move(state: TierState, devices: Iterable[str], stage: Stage) -> TierState:
    """Return the state with these devices at another stage; the source of their updates stays known."""
    changed = {device: replace(state.devices[device], stage=stage) for device in devices}
    return replace(state, devices={**state.devices, **changed})
