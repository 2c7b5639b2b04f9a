"""Submissions of child edges at an edge's machine: held whole, let wait, or refused with the names counted already."""

from collections.abc import Iterable
from dataclasses import replace

from fedcore.core.rounds.tier.commands import Acknowledge, AnswerChild, Command, Hold, HoldPart, Push
from fedcore.core.rounds.tier.events import PartArrived
from fedcore.core.rounds.tier.state import Claim, PartialId, RelayedDevice, Stage, Submission, TierState, Word

Step = tuple[TierState, tuple[Command, ...]]

HERE = (Stage.HELD, Stage.FLYING)
OPEN = (Stage.PENDING, Stage.GONE)


def part_arrived(state: TierState, event: PartArrived) -> Step:
    """Let a submission wait that is of this round or a later one, until `review` looks at it; answer any other."""
    part = PartialId(child=event.child, number=event.number)
    if event.round < max(1, state.round):
        return state, (AnswerChild(part=part, round=event.round, word=Word.LATE),)
    if event.round == state.round and part in state.answers:
        word, devices = state.answers[part]
        return state, (AnswerChild(part=part, round=event.round, word=word, devices=devices),)
    if part in state.parts or part in state.waiting:
        return state, ()  # the answer to the first copy answers this one
    claim = Claim(round=event.round, counted=event.counted, failed=event.failed)
    return replace(state, waiting={**state.waiting, part: claim}), ()


def review(state: TierState) -> Step:
    """Judge what waits: refuse what overlaps with the counted, hold what overlaps with nothing here."""
    out: tuple[Command, ...] = ()
    for part, claim in state.waiting.items():
        if claim.round == state.round:
            state, judged = _judge(state, part, claim)
            out += judged
    return state, out


def _judge(state: TierState, part: PartialId, claim: Claim) -> Step:
    stages = {each: state.leaves[each].stage for each in claim.counted if each in state.leaves}
    counted = tuple(sorted(each for each, stage in stages.items() if stage is Stage.COUNTED))
    if counted or state.over:
        word = Word.OVERLAP if counted else Word.LATE
        answer = AnswerChild(part=part, round=claim.round, word=word, devices=counted)
        return answered(state, [answer]), (answer,)
    if any(stage in HERE for stage in stages.values()):
        return state, ()  # nothing is acknowledged below before it is acknowledged above
    leaves = dict(state.leaves)
    for each in claim.counted:
        # Who was never shared here is its child's alone: nobody waits for it, should the part go back.
        gone = each not in leaves or leaves[each].gone or leaves[each].stage is Stage.GONE
        leaves[each] = RelayedDevice(stage=Stage.HELD, part=part, gone=gone)
    for each in claim.failed:
        if each not in leaves or leaves[each].stage in OPEN:
            leaves[each] = RelayedDevice(stage=Stage.FAILED)
    waiting = {other: kept for other, kept in state.waiting.items() if other != part}
    return replace(state, leaves=leaves, parts={**state.parts, part: claim.counted}, waiting=waiting), (
        HoldPart(part=part),
    )


def landed(state: TierState, flight: Submission, word: Word) -> Step:
    """Pass the word on a whole submission on to everybody in it."""
    stage = Stage.COUNTED if word is Word.ACCEPTED else Stage.REFUSED
    told = tell(state, flight.devices, word)
    answers = [AnswerChild(part=part, round=state.round, word=word) for part in flight.parts]
    return answered(at(state, flight.devices, stage), answers), (*told, *answers)


def taken_apart(state: TierState, flight: Submission, counted: frozenset[str]) -> Step:
    """Hold again what is not counted elsewhere; a child's part with such a leaf goes back to the child."""
    back = [part for part in flight.parts if counted & set(state.parts[part])]
    answers = [
        AnswerChild(
            part=part, round=state.round, word=Word.OVERLAP, devices=tuple(sorted(counted & set(state.parts[part])))
        )
        for part in back
    ]
    returned = sorted({device for part in back for device in state.parts[part]} - counted)
    waited_for = tuple(each for each in returned if not state.leaves[each].gone)
    known = tuple(each for each in flight.devices if each in counted)
    told = tell(state, known, Word.ACCEPTED)
    held = tuple(each for each in flight.devices if each not in counted and each not in returned)
    own = tuple(each for each in held if state.leaves[each].part is None)
    state = restaged(state, held, Stage.HELD)
    state = at(state, known, Stage.COUNTED)
    state = at(state, returned, Stage.GONE)
    state = at(state, waited_for, Stage.PENDING)
    state = replace(answered(state, answers), reported=state.reported - set(flight.failed))
    return state, (
        *told,
        *answers,
        # Who moved here since is under another parent now, which was not told of its assignment.
        *(Push(device=each, round=state.round) for each in waited_for),
        *(Hold(device=each, round=state.round) for each in own),
        *(HoldPart(part=part) for part in flight.parts if part not in back),
    )


def tell(state: TierState, devices: Iterable[str], word: Word) -> tuple[Acknowledge, ...]:
    """The word for those of these devices that sent their update here themselves."""
    leaves = ((each, state.leaves[each]) for each in devices)
    return tuple(
        Acknowledge(device=each, round=state.round, word=word)
        for each, leaf in leaves
        if leaf.part is None or leaf.asked
    )


def answered(state: TierState, answers: list[AnswerChild]) -> TierState:
    """Remember these answers: what came in the parts is decided."""
    given = {answer.part: (answer.word, answer.devices) for answer in answers}
    return replace(
        state,
        parts={part: devices for part, devices in state.parts.items() if part not in given},
        waiting={part: claim for part, claim in state.waiting.items() if part not in given},
        answers={**state.answers, **given},
    )


def at(state: TierState, devices: Iterable[str], stage: Stage) -> TierState:
    """Put leaves at a stage without an update here."""
    return replace(state, leaves={**state.leaves, **{device: RelayedDevice(stage=stage) for device in devices}})


def restaged(state: TierState, devices: Iterable[str], stage: Stage) -> TierState:
    """Put leaves at another stage; where their updates came from stays."""
    changed = {device: replace(state.leaves[device], stage=stage) for device in devices}
    return replace(state, leaves={**state.leaves, **changed})
