"""The machine of an edge, without I/O: `step(state, event) -> (state, commands)`.

Theory of operation. An edge holds the updates of the devices below it until no device is pending or its deadline has
come, passes them up in one submission, and keeps them until the tier above has answered. A device of the round is

    PENDING --update--> FOLDED --passed up--> SENT --ACCEPTED above--> COUNTED
       |  ^                ^                   |-----other decision--> REFUSED
       |  '--shared again  '--taken apart------'
       |--left--> ABSENT (its update may still come)       '--failure--> FAILED (a verified update outweighs it)

and three invariants decide everything else:

1. *Each update is in one sum at most.* A device FOLDED or SENT is once in the open sum or in one submission; a copy
   waits for the decision on the first one. Children's sums are in `partials.py`.
2. *Nothing is acknowledged below before it is acknowledged above.* Devices and child edges keep what they sent until
   then, so an edge may die at any moment and no update is lost.
3. *Only the root knows what counts.* An edge never concludes that an update counts, or that a device is done: it passes
   the root's decisions down. Where the root shares a device again, every earlier decision on that device is void.

Every step has the same order: note the time, apply the event, decide on claimed partials (`review`: the event may have
brought the decision that they wait for), and pass up what is ready (`_send`: last, so that all updates that became
ready in this step go into this submission). From the invariants follow the rules:

- Once no device is pending, the sum goes up, even while an earlier submission is under way: the tier above may hold
  that one until it knows of just these devices. Past the deadline, the sum goes up as it is; while a device is still
  pending, only one submission at a time is under way. After every reconnect, a submission without an answer is sent
  again, unchanged.
- A submission that is refused as overlapping is taken apart. Updates that are counted already are dropped. A child's
  partial that contains one of them goes back to that child. The rest is folded again and sent under a new number.
- OVERLAP names only devices that the root counted. A partial may contain a device with another copy that is here
  without an answer. The partial then waits for that answer, and the edge does not wait for the devices in it.
- A child's partial counts as a whole. A repeated number gets the same answer again. Devices that were never shared here
  (their edge moved here from another parent) are passed on: the root knows them. A partial of a later round waits for
  its share.
- A device that is shared again and has its update here is passed on as it is. Any other device that is shared again
  is pending again, whatever its earlier decision. A failure is reported again.
- Devices counted at the last close stay known until the next round, so that copies get the true answer.
- A share of a later round ends the current one: an update that was not passed on by then would be late.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fedcore.core.rounds.tier.commands import Acknowledge, Command, Fold, Forget, Push, Send, SendAgain
from fedcore.core.rounds.tier.events import (
    AssignmentFailed,
    DeviceLeft,
    Event,
    PartialArrived,
    RoundClosed,
    ShareArrived,
    SubmissionAnswered,
    Tick,
    UpdateArrived,
    UplinkRestored,
)
from fedcore.core.rounds.tier.partials import (
    AWAITED,
    HERE,
    Step,
    move,
    partial_arrived,
    review,
    settle,
    take_apart,
    with_stage,
)
from fedcore.core.rounds.tier.state import Decision, RelayedDevice, Stage, Submission, TierState


def step(state: TierState, event: Event) -> Step:
    """Return the state after `event` and the commands for the shell, in order. Never raises, whatever the order."""
    state = replace(state, now_s=max(state.now_s, event.now_s))
    state, out = RULES[type(event)](state, event)
    state, decisions = review(state)
    state, sending = _send(state)
    return state, out + decisions + sending


def _share_arrived(state: TierState, event: ShareArrived) -> Step:
    if event.round < max(1, state.round + state.over):
        return state, ()
    out: tuple[Command, ...] = ()
    if event.round > state.round:
        if state.round:
            out = (Forget(round=state.round),)
        claims = {part: claim for part, claim in state.claims.items() if claim.round >= event.round}
        state = TierState(round=event.round, now_s=state.now_s, number=state.number, claims=claims)
    state, pushes = _shared(replace(state, deadline_at_s=event.deadline_at_s), event)
    return state, (*out, *pushes)


def _shared(state: TierState, event: ShareArrived) -> tuple[TierState, tuple[Push, ...]]:
    """Make the devices of a share pending, except those with an update or a failure here."""
    under_way = {device for submission in state.submissions.values() for device in submission.failed}
    devices, answers, reported = dict(state.devices), state.answers, state.reported_failures
    pushed = []
    for device in dict.fromkeys(event.devices):
        relayed = devices.get(device)
        if relayed is not None and relayed.stage in HERE:
            devices[device] = replace(relayed, absent=False)
        elif relayed is not None and relayed.stage is Stage.FAILED:
            reported -= {device} - under_way
        else:
            if relayed is not None and relayed.stage not in AWAITED:
                answers = {}  # the tier above lost its updates: no older answer holds
            devices[device] = RelayedDevice(stage=Stage.PENDING)
            pushed.append(Push(device=device, round=event.round))
    return replace(state, devices=devices, answers=answers, reported_failures=reported), tuple(pushed)


def _update_arrived(state: TierState, event: UpdateArrived) -> Step:
    relayed = state.devices.get(event.device) if event.round == state.round else None
    if relayed is None or relayed.stage is Stage.FAILED:
        of_the_past = 0 < event.round < state.round + state.over
        return state, (_acknowledge(event, Decision.LATE if of_the_past else Decision.UNKNOWN),)
    match relayed.stage:
        case Stage.PENDING | Stage.ABSENT:
            folded = with_stage(state, (event.device,), Stage.FOLDED)
            return folded, (Fold(device=event.device, round=event.round),)
        case Stage.COUNTED:
            return state, (_acknowledge(event, Decision.ACCEPTED),)
        case Stage.REFUSED:
            return state, (_acknowledge(event, Decision.LATE),)
    # Folded or sent: the decision on the first copy answers this one.
    return replace(state, devices={**state.devices, event.device: replace(relayed, offered_copy=True)}), ()


def _acknowledge(event: UpdateArrived, decision: Decision) -> Acknowledge:
    return Acknowledge(device=event.device, round=event.round, decision=decision)


def _assignment_failed(state: TierState, event: AssignmentFailed) -> Step:
    relayed = state.devices.get(event.device)
    if event.round != state.round or relayed is None or relayed.stage not in AWAITED:
        return state, ()
    return with_stage(state, (event.device,), Stage.FAILED), ()


def _device_left(state: TierState, event: DeviceLeft) -> Step:
    relayed = state.devices.get(event.device)
    if relayed is None:
        return state, ()
    if relayed.stage in HERE:
        return replace(state, devices={**state.devices, event.device: replace(relayed, absent=True)}), ()
    return (with_stage(state, (event.device,), Stage.ABSENT), ()) if relayed.stage is Stage.PENDING else (state, ())


def _submission_answered(state: TierState, event: SubmissionAnswered) -> Step:
    submission = state.submissions.get(event.number)
    if submission is None:
        return state, ()
    unanswered = {number: other for number, other in state.submissions.items() if other is not submission}
    state = replace(state, submissions=unanswered)
    if event.decision is Decision.OVERLAP:
        return take_apart(state, submission, frozenset(event.devices))
    return settle(state, submission, event.decision)


def _uplink_restored(state: TierState, _: UplinkRestored) -> Step:
    return state, tuple(SendAgain(number=number) for number in sorted(state.submissions))


def _round_closed(state: TierState, event: RoundClosed) -> Step:
    if event.round < max(1, state.round):
        return state, ()
    devices = state.devices if event.round == state.round else {}
    after = TierState(
        round=event.round,
        over=True,
        now_s=state.now_s,
        number=state.number,
        devices={device: relayed for device, relayed in devices.items() if relayed.stage is Stage.COUNTED},
        claims={part: claim for part, claim in state.claims.items() if claim.round > event.round},
    )
    return after, (Forget(round=event.round),)


def _tick(state: TierState, _: Tick) -> Step:
    return state, ()


RULES: Mapping[type[Any], Callable[[TierState, Any], Step]] = {
    ShareArrived: _share_arrived,
    UpdateArrived: _update_arrived,
    AssignmentFailed: _assignment_failed,
    DeviceLeft: _device_left,
    PartialArrived: partial_arrived,
    SubmissionAnswered: _submission_answered,
    UplinkRestored: _uplink_restored,
    RoundClosed: _round_closed,
    Tick: _tick,
}


def _send(state: TierState) -> Step:
    if state.over or (_is_waiting(state) and (state.submissions or state.now_s < state.deadline_at_s)):
        return state, ()
    submission = _ready(state)
    if not (submission.devices or submission.failed or submission.parts):
        return state, ()
    state = replace(
        move(state, submission.devices, Stage.SENT),
        submissions={**state.submissions, submission.number: submission},
        number=submission.number,
        reported_failures=state.reported_failures | set(submission.failed),
    )
    send = Send(
        number=submission.number,
        round=state.round,
        devices=submission.devices,
        failed=submission.failed,
        parts=submission.parts,
    )
    return state, (send,)


def _ready(state: TierState) -> Submission:
    """Return all that has not been passed on, under the next number; also partials in which no device counts."""
    folded = [device for device, relayed in state.devices.items() if relayed.stage is Stage.FOLDED]
    failed = {device for device, relayed in state.devices.items() if relayed.stage is Stage.FAILED}
    under_way = {part for submission in state.submissions.values() for part in submission.parts}
    return Submission(
        number=state.number + 1,
        devices=tuple(sorted(folded)),
        failed=tuple(sorted(failed - state.reported_failures)),
        parts=tuple(sorted(set(state.parts) - under_way)),  # a child needs an answer, whatever its partial holds
    )


def _is_waiting(state: TierState) -> bool:
    """Whether a device has not answered yet; a device in a claimed partial has answered."""
    claims = (claim for claim in state.claims.values() if claim.round == state.round)
    answered = {device for claim in claims for device in (*claim.counted, *claim.failed)}
    return any(relayed.stage is Stage.PENDING and device not in answered for device, relayed in state.devices.items())
