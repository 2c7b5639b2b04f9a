"""The machine of an edge, without I/O: `step(state, event) -> (state, commands)`.

An edge holds the updates of the devices below it until nobody is pending (or its deadline is there), passes them up in
one submission, and keeps them until the tier above has answered. Rules:

- One submission is under way at a time. What arrives meanwhile waits for the next one.
- Nothing is acknowledged below before it is acknowledged above: devices and child edges keep what they sent.
- Refused as overlapping, a submission is taken apart: what is counted already is dropped, what came from a child edge
  together with it goes back to that child, the rest is held again and sent under a new number.
- A child's partial counts as a whole, like a leaf. A repeated number gets the same answer again.
- A share of a later round ends the current one: whatever was not passed on until then would be late.
"""

from dataclasses import replace

from fedcore.rounds.tier_commands import (
    Acknowledge,
    AnswerChild,
    Command,
    Forget,
    Hold,
    HoldPart,
    Push,
    Send,
    SendAgain,
)
from fedcore.rounds.tier_events import (
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
from fedcore.rounds.tier_state import Flight, Leaf, Part, Stage, TierState, Word

Step = tuple[TierState, tuple[Command, ...]]

_HERE = (Stage.HELD, Stage.FLYING)


def step(state: TierState, event: Event) -> Step:
    """Return the state after `event` and what the shell has to do, in order. Never raises, whatever the order."""
    state = replace(state, now_s=max(state.now_s, event.now_s))
    state, answers = _handle(state, event)
    state, sent = _send(state)
    return state, answers + sent


def _handle(state: TierState, event: Event) -> Step:
    match event:
        case Shared():
            return _shared(state, event)
        case Arrived():
            return _arrived(state, event)
        case Failed():
            return _failed(state, event)
        case Gone():
            leaf = state.leaves.get(event.device)
            gone = leaf is not None and leaf.stage is Stage.PENDING
            return (_at(state, (event.device,), Stage.GONE), ()) if gone else (state, ())
        case PartArrived():
            return _part_arrived(state, event)
        case Answered():
            return _answered(state, event)
        case Reconnected():
            return state, () if state.flight is None else (SendAgain(number=state.flight.number),)
        case Closed():
            return _closed(state, event)
        case Tick():
            return state, ()


def _shared(state: TierState, event: Shared) -> Step:
    if event.round < state.round + state.over:
        return state, ()
    out: tuple[Command, ...] = ()
    if event.round > state.round:
        if state.round:
            out = (Forget(round=state.round),)
        state = TierState(round=event.round, now_s=state.now_s, number=state.number, deadline_at_s=event.deadline_at_s)
    leaves = dict(state.leaves)
    pushed = []
    for device in event.devices:
        known = leaves.get(device)
        if known is not None and (known.stage in _HERE or known.stage is Stage.FAILED):
            continue  # its answer is here: the tier above hears of it soon
        leaves[device] = Leaf(stage=Stage.PENDING)
        pushed.append(device)
    return replace(state, leaves=leaves), (*out, *(Push(device=device, round=event.round) for device in pushed))


def _arrived(state: TierState, event: Arrived) -> Step:
    leaf = state.leaves.get(event.device)
    if event.round != state.round or leaf is None or leaf.stage is Stage.FAILED:
        behind = 0 < event.round < state.round + state.over
        word = Word.LATE if behind else Word.UNKNOWN
        return state, (Acknowledge(device=event.device, round=event.round, word=word),)
    match leaf.stage:
        case Stage.PENDING | Stage.GONE:
            return _at(state, (event.device,), Stage.HELD), (Hold(device=event.device, round=event.round),)
        case Stage.COUNTED:
            return state, (Acknowledge(device=event.device, round=event.round, word=Word.ACCEPTED),)
        case Stage.REFUSED:
            return state, (Acknowledge(device=event.device, round=event.round, word=Word.LATE),)
    return state, ()  # held or on its way: the answer to the first copy answers this one


def _failed(state: TierState, event: Failed) -> Step:
    leaf = state.leaves.get(event.device)
    if event.round != state.round or leaf is None or leaf.stage not in (Stage.PENDING, Stage.GONE):
        return state, ()
    return _at(state, (event.device,), Stage.FAILED), ()


def _part_arrived(state: TierState, event: PartArrived) -> Step:
    part = Part(child=event.child, number=event.number)
    answer = AnswerChild(part=part, round=event.round, word=Word.LATE)
    if event.round != state.round or not all(each in state.leaves for each in (*event.counted, *event.failed)):
        return state, (answer,)
    if part in state.parts:
        return state, ()
    if part in state.answers:
        word, devices = state.answers[part]
        return state, (AnswerChild(part=part, round=event.round, word=word, devices=devices),)
    overlap = tuple(sorted(each for each in event.counted if _resolved(state.leaves[each])))
    if overlap:
        answer = replace(answer, word=Word.OVERLAP, devices=overlap)
        return _without_parts(state, [answer]), (answer,)
    state = _at(state, event.counted, Stage.HELD, part)
    open_ = tuple(each for each in event.failed if state.leaves[each].stage in (Stage.PENDING, Stage.GONE))
    state = _at(state, open_, Stage.FAILED)
    return replace(state, parts={**state.parts, part: event.counted}), (HoldPart(part=part),)


def _resolved(leaf: Leaf) -> bool:
    return leaf.stage not in (Stage.PENDING, Stage.GONE)


def _answered(state: TierState, event: Answered) -> Step:
    flight = state.flight
    if flight is None or event.number != flight.number:
        return state, ()
    state = replace(state, flight=None)
    if event.word is Word.OVERLAP:
        return _taken_apart(state, flight, frozenset(event.devices))
    counted = event.word is Word.ACCEPTED
    state = _at(state, flight.devices, Stage.COUNTED if counted else Stage.REFUSED)
    own = [each for each in flight.devices if state.leaves[each].part is None]
    below = [part for part in state.parts if part in flight.parts]
    answers = [AnswerChild(part=part, round=state.round, word=event.word) for part in below]
    state = _without_parts(state, answers)
    return state, (*(Acknowledge(device=each, round=state.round, word=event.word) for each in own), *answers)


def _taken_apart(state: TierState, flight: Flight, counted: frozenset[str]) -> Step:
    """Hold again what is not counted elsewhere; a child's part with such a leaf goes back to the child."""
    back = [part for part in flight.parts if counted & set(state.parts[part])]
    answers = [
        AnswerChild(
            part=part, round=state.round, word=Word.OVERLAP, devices=tuple(sorted(counted & set(state.parts[part])))
        )
        for part in back
    ]
    returned = {device for part in back for device in state.parts[part]}
    own = tuple(each for each in flight.devices if state.leaves[each].part is None)
    known = tuple(each for each in own if each in counted)
    state = _at(state, tuple(sorted(returned - counted)), Stage.PENDING)
    state = _at(state, (*known, *sorted(returned & counted)), Stage.COUNTED)
    held = tuple(each for each in own if each not in counted)
    whole = tuple(part for part in flight.parts if part not in back)
    state = _at(state, held, Stage.HELD)
    for part in whole:
        state = _at(state, state.parts[part], Stage.HELD, part)
    state = replace(_without_parts(state, answers), reported=state.reported - set(flight.failed))
    return state, (
        *(Acknowledge(device=each, round=state.round, word=Word.ACCEPTED) for each in known),
        *answers,
        *(Hold(device=each, round=state.round) for each in held),
        *(HoldPart(part=part) for part in whole),
    )


def _without_parts(state: TierState, answers: list[AnswerChild]) -> TierState:
    """Give these answers: what came in the parts is decided."""
    gone = {answer.part: (answer.word, answer.devices) for answer in answers}
    parts = {part: devices for part, devices in state.parts.items() if part not in gone}
    return replace(state, parts=parts, answers={**state.answers, **gone})


def _closed(state: TierState, event: Closed) -> Step:
    if not state.round or event.round < state.round:
        return state, ()
    after = TierState(round=event.round, over=True, now_s=state.now_s, number=state.number)
    return after, (Forget(round=event.round),)


def _send(state: TierState) -> Step:
    if state.flight is not None or state.over:
        return state, ()
    waiting = any(leaf.stage is Stage.PENDING for leaf in state.leaves.values())
    if waiting and state.now_s < state.deadline_at_s:
        return state, ()
    held = tuple(sorted(each for each, leaf in state.leaves.items() if leaf.stage is Stage.HELD))
    failed = tuple(
        sorted(each for each, leaf in state.leaves.items() if leaf.stage is Stage.FAILED and each not in state.reported)
    )
    if not held and not failed:
        return state, ()
    parts = tuple(sorted({part for each in held if (part := state.leaves[each].part) is not None}))
    flight = Flight(number=state.number + 1, devices=held, failed=failed, parts=parts)
    state = replace(state, flight=flight, number=flight.number, reported=state.reported | set(failed))
    for device in held:
        state = _at(state, (device,), Stage.FLYING, state.leaves[device].part)
    return state, (Send(number=flight.number, round=state.round, devices=held, failed=failed, parts=parts),)


def _at(state: TierState, devices: tuple[str, ...], stage: Stage, part: Part | None = None) -> TierState:
    changed = {device: Leaf(stage=stage, part=part) for device in devices}
    return replace(state, leaves={**state.leaves, **changed})
