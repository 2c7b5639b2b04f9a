"""The machine of an edge, without I/O: `step(state, event) -> (state, commands)`.

Theory of operation. An edge holds the updates of the devices below it until nobody is pending (or its deadline is
there), passes them up in one submission, and keeps them until the tier above has answered. A device of the round is

    PENDING --update--> FOLDED --passed up--> SENT --ACCEPTED above--> COUNTED
       |  ^                ^                   |-----other decision--> REFUSED
       |  '--shared again  '--taken apart------'
       |--left--> ABSENT (its update may still come)       '--failure--> FAILED (a verified update outweighs it)

and three invariants decide everything else:

1. *Each update is in one sum at most.* A device FOLDED or SENT is in the open sum, or in one submission, once; a copy
   waits for the decision on the first. Children's sums are in `partials.py`.
2. *Nothing is acknowledged below before it is acknowledged above.* Devices and child edges keep what they sent until
   then, so an edge may die at any moment and nothing is lost.
3. *Only the root knows what counts.* An edge never concludes that an update counts, or that a device is done: it passes
   the root's decisions down, and where the root shares a device again, whatever was said of it before is void.

Every step has the same order: note the time, do what the event says, decide on claimed partials (`review`: the event
may have brought the decision they wait for), and pass up what is ready (`_send`: last, so that whatever became ready
in this step goes in this submission). From the invariants follow the rules:

- Once nobody is pending, what is folded goes up, also while an earlier submission is under way: the tier above may keep
  that one until it has heard of just these devices. Past the deadline it goes up as it is; then, while a device is
  pending, one submission at a time. Until it is answered, a submission goes again unchanged after every reconnect.
- Refused as overlapping, a submission is taken apart: what is counted already is dropped, what came from a child edge
  together with it goes back to that child, the rest is folded again and sent under a new number.
- OVERLAP names only what the root counted. A partial with a device whose other copy is here without an answer waits for
  that answer, and nobody waits for the devices in it.
- A child's partial counts as a whole. A repeated number gets the same answer again. Devices that were never shared here
  (their edge came from another parent) are passed on: the root knows them. A partial of a later round waits for its
  share.
- Shared again, a device whose update is here is passed on as it is; any other is pending again, whatever was said of
  it. A failure is then reported again.
- What the last close left counted stays known until the next round: copies are answered with what is true.
- A share of a later round ends the current one: whatever was not passed on until then would be late.
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
    """Return the state after `event` and what the shell has to do, in order. Never raises, whatever the order."""
    state = replace(state, now_s=max(state.now_s, event.now_s))
    state, out = RULES[type(event)](state, event)
    state, decided = review(state)
    state, sent = _send(state)
    return state, out + decided + sent


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
    """Make the devices of a share pending, but for those whose update or failure is here."""
    under_way = {device for submission in state.submissions.values() for device in submission.failed}
    devices, answers, reported = dict(state.devices), state.answers, state.reported_failures
    pushed = []
    for device in dict.fromkeys(event.devices):
        known = devices.get(device)
        if known is not None and known.stage in HERE:
            devices[device] = replace(known, absent=False)
        elif known is not None and known.stage is Stage.FAILED:
            reported -= {device} - under_way
        else:
            if known is not None and known.stage not in AWAITED:
                answers = {}  # the tier above has lost what it had: no older answer holds
            devices[device] = RelayedDevice(stage=Stage.PENDING)
            pushed.append(Push(device=device, round=event.round))
    return replace(state, devices=devices, answers=answers, reported_failures=reported), tuple(pushed)


def _update_arrived(state: TierState, event: UpdateArrived) -> Step:
    known = state.devices.get(event.device) if event.round == state.round else None
    if known is None or known.stage is Stage.FAILED:
        of_the_past = 0 < event.round < state.round + state.over
        return state, (_acknowledge(event, Decision.LATE if of_the_past else Decision.UNKNOWN),)
    match known.stage:
        case Stage.PENDING | Stage.ABSENT:
            folded = with_stage(state, (event.device,), Stage.FOLDED)
            return folded, (Fold(device=event.device, round=event.round),)
        case Stage.COUNTED:
            return state, (_acknowledge(event, Decision.ACCEPTED),)
        case Stage.REFUSED:
            return state, (_acknowledge(event, Decision.LATE),)
    # Folded or sent: the decision on the first copy answers this one.
    return replace(state, devices={**state.devices, event.device: replace(known, offered_copy=True)}), ()


def _acknowledge(event: UpdateArrived, decision: Decision) -> Acknowledge:
    return Acknowledge(device=event.device, round=event.round, decision=decision)


def _assignment_failed(state: TierState, event: AssignmentFailed) -> Step:
    known = state.devices.get(event.device)
    if event.round != state.round or known is None or known.stage not in AWAITED:
        return state, ()
    return with_stage(state, (event.device,), Stage.FAILED), ()


def _device_left(state: TierState, event: DeviceLeft) -> Step:
    known = state.devices.get(event.device)
    if known is None:
        return state, ()
    if known.stage in HERE:
        return replace(state, devices={**state.devices, event.device: replace(known, absent=True)}), ()
    return (with_stage(state, (event.device,), Stage.ABSENT), ()) if known.stage is Stage.PENDING else (state, ())


def _submission_answered(state: TierState, event: SubmissionAnswered) -> Step:
    answered = state.submissions.get(event.number)
    if answered is None:
        return state, ()
    others = {number: submission for number, submission in state.submissions.items() if submission is not answered}
    state = replace(state, submissions=others)
    if event.decision is Decision.OVERLAP:
        return take_apart(state, answered, frozenset(event.devices))
    return settle(state, answered, event.decision)


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
        devices={device: known for device, known in devices.items() if known.stage is Stage.COUNTED},
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
    """Everything that has not been passed on, under the next number; also partials in which nothing counts."""
    folded = [device for device, known in state.devices.items() if known.stage is Stage.FOLDED]
    failed = {device for device, known in state.devices.items() if known.stage is Stage.FAILED}
    under_way = {part for submission in state.submissions.values() for part in submission.parts}
    return Submission(
        number=state.number + 1,
        devices=tuple(sorted(folded)),
        failed=tuple(sorted(failed - state.reported_failures)),
        parts=tuple(sorted(set(state.parts) - under_way)),  # a child wants an answer, whatever is in its partial
    )


def _is_waiting(state: TierState) -> bool:
    """Whether a device has not answered yet; one that is in a claimed partial has."""
    claims = (claim for claim in state.claims.values() if claim.round == state.round)
    answered = {device for claim in claims for device in (*claim.counted, *claim.failed)}
    return any(known.stage is Stage.PENDING and device not in answered for device, known in state.devices.items())
