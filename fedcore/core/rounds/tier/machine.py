"""The machine of an edge, without I/O: `step(state, event) -> (state, commands)`.

An edge holds the updates of the devices below it until nobody is pending (or its deadline is there), passes them up in
one submission, and keeps them until the tier above has answered. Rules:

- Once nobody is pending, what is held goes up, also while an earlier submission is under way: the tier above may keep
  that one until it has heard of just these devices. Past the deadline it goes up as it is; then, while somebody is
  pending, one submission at a time. Until it is answered, a submission goes again unchanged after every reconnect.
- Nothing is acknowledged below before it is acknowledged above: devices and child edges keep what they sent.
- Refused as overlapping, a submission is taken apart: what is counted already is dropped, what came from a child edge
  together with it goes back to that child, the rest is held again and sent under a new number.
- OVERLAP names only what the root counted. A child's part with a leaf whose other copy is here without an answer waits
  for that answer, and nobody waits for the leaves in it.
- A child's part counts as a whole. A repeated number gets the same answer again. Leaves that were never shared here
  (their edge came from another parent) are passed on: the root knows them. A part of a later round waits for its share.
- Shared again, a leaf whose update is here is passed on as it is; any other is pending again, whatever was said of it:
  only the root knows what it still asks for. A failure is then reported again. A verified update outweighs a failure.
- What the last close left counted stays known until the next round: copies are answered with what is true.
- A share of a later round ends the current one: whatever was not passed on until then would be late.
"""

from dataclasses import replace

from fedcore.core.rounds.tier.commands import Acknowledge, Command, Forget, Hold, Push, Send, SendAgain
from fedcore.core.rounds.tier.events import (
    Answered,
    Arrived,
    Closed,
    Event,
    Failed,
    Gone,
    PartArrived,
    Reconnected,
    Shared,
    Tick,
)
from fedcore.core.rounds.tier.parts import HERE, OPEN, Step, at, landed, part_arrived, restaged, review, taken_apart
from fedcore.core.rounds.tier.state import RelayedDevice, Stage, Submission, TierState, Word


def step(state: TierState, event: Event) -> Step:
    """Return the state after `event` and what the shell has to do, in order. Never raises, whatever the order."""
    state = replace(state, now_s=max(state.now_s, event.now_s))
    state, out = _handle(state, event)
    state, judged = review(state)
    state, sent = _send(state)
    return state, out + judged + sent


def _handle(state: TierState, event: Event) -> Step:
    match event:
        case Shared():
            return _shared(state, event)
        case Arrived():
            return _arrived(state, event)
        case Failed():
            return _failed(state, event)
        case Gone():
            return _gone(state, event)
        case PartArrived():
            return part_arrived(state, event)
        case Answered():
            return _answered(state, event)
        case Reconnected():
            return state, tuple(SendAgain(number=number) for number in sorted(state.flights))
        case Closed():
            return _closed(state, event)
        case Tick():
            return state, ()


def _shared(state: TierState, event: Shared) -> Step:
    if event.round < max(1, state.round + state.over):
        return state, ()
    out: tuple[Command, ...] = ()
    if event.round > state.round:
        if state.round:
            out = (Forget(round=state.round),)
        waiting = {part: claim for part, claim in state.waiting.items() if claim.round >= event.round}
        state = TierState(round=event.round, now_s=state.now_s, number=state.number, waiting=waiting)
    under_way = {device for flight in state.flights.values() for device in flight.failed}
    leaves, answers, reported = dict(state.leaves), state.answers, state.reported
    pushed = []
    for device in dict.fromkeys(event.devices):
        known = leaves.get(device)
        if known is not None and known.stage in HERE:
            leaves[device] = replace(known, gone=False)
        elif known is not None and known.stage is Stage.FAILED:
            reported -= {device} - under_way
        else:
            if known is not None and known.stage not in OPEN:
                answers = {}  # the tier above has lost what it had: no older answer holds
            leaves[device] = RelayedDevice(stage=Stage.PENDING)
            pushed.append(device)
    state = replace(state, leaves=leaves, answers=answers, reported=reported, deadline_at_s=event.deadline_at_s)
    return state, (*out, *(Push(device=device, round=event.round) for device in pushed))


def _arrived(state: TierState, event: Arrived) -> Step:
    leaf = state.leaves.get(event.device) if event.round == state.round else None
    if leaf is None or leaf.stage is Stage.FAILED:
        word = Word.LATE if 0 < event.round < state.round + state.over else Word.UNKNOWN
        return state, (Acknowledge(device=event.device, round=event.round, word=word),)
    match leaf.stage:
        case Stage.PENDING | Stage.GONE:
            return at(state, (event.device,), Stage.HELD), (Hold(device=event.device, round=event.round),)
        case Stage.COUNTED:
            return state, (Acknowledge(device=event.device, round=event.round, word=Word.ACCEPTED),)
        case Stage.REFUSED:
            return state, (Acknowledge(device=event.device, round=event.round, word=Word.LATE),)
    # Held or on its way: the answer to the first copy answers this one.
    return replace(state, leaves={**state.leaves, event.device: replace(leaf, asked=True)}), ()


def _failed(state: TierState, event: Failed) -> Step:
    leaf = state.leaves.get(event.device)
    if event.round != state.round or leaf is None or leaf.stage not in OPEN:
        return state, ()
    return at(state, (event.device,), Stage.FAILED), ()


def _gone(state: TierState, event: Gone) -> Step:
    leaf = state.leaves.get(event.device)
    if leaf is None:
        return state, ()
    if leaf.stage in HERE:
        return replace(state, leaves={**state.leaves, event.device: replace(leaf, gone=True)}), ()
    return (at(state, (event.device,), Stage.GONE), ()) if leaf.stage is Stage.PENDING else (state, ())


def _answered(state: TierState, event: Answered) -> Step:
    flight = state.flights.get(event.number)
    if flight is None:
        return state, ()
    state = replace(state, flights={number: each for number, each in state.flights.items() if each is not flight})
    if event.word is Word.OVERLAP:
        return taken_apart(state, flight, frozenset(event.devices))
    return landed(state, flight, event.word)


def _closed(state: TierState, event: Closed) -> Step:
    if event.round < max(1, state.round):
        return state, ()
    leaves = state.leaves if event.round == state.round else {}
    after = TierState(
        round=event.round,
        over=True,
        now_s=state.now_s,
        number=state.number,
        leaves={device: leaf for device, leaf in leaves.items() if leaf.stage is Stage.COUNTED},
        waiting={part: claim for part, claim in state.waiting.items() if claim.round > event.round},
    )
    return after, (Forget(round=event.round),)


def _send(state: TierState) -> Step:
    if state.over or (_somebody_is_pending(state) and (state.flights or state.now_s < state.deadline_at_s)):
        return state, ()
    held = tuple(sorted(each for each, leaf in state.leaves.items() if leaf.stage is Stage.HELD))
    failed = tuple(
        sorted(each for each, leaf in state.leaves.items() if leaf.stage is Stage.FAILED and each not in state.reported)
    )
    under_way = {part for flight in state.flights.values() for part in flight.parts}
    parts = tuple(sorted(set(state.parts) - under_way))  # also those in which nothing counts: they want an answer
    if not held and not failed and not parts:
        return state, ()
    flight = Submission(number=state.number + 1, devices=held, failed=failed, parts=parts)
    state = replace(
        restaged(state, held, Stage.FLYING),
        flights={**state.flights, flight.number: flight},
        number=flight.number,
        reported=state.reported | set(failed),
    )
    return state, (Send(number=flight.number, round=state.round, devices=held, failed=failed, parts=parts),)


def _somebody_is_pending(state: TierState) -> bool:
    """Whether somebody has not answered yet; who is in a waiting part has."""
    claims = (claim for claim in state.waiting.values() if claim.round == state.round)
    answered = {device for claim in claims for device in (*claim.counted, *claim.failed)}
    return any(leaf.stage is Stage.PENDING and each not in answered for each, leaf in state.leaves.items())
