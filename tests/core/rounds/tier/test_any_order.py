"""Properties of an edge's machine under any order of events, also ones no sane shell would send."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.rounds.tier.commands import Acknowledge, AnswerChild, Command, Fold, Forget, MergePartial, Push, Send
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
from fedcore.core.rounds.tier.machine import step
from fedcore.core.rounds.tier.state import Decision, Stage, TierState

DEVICES = st.sampled_from("abcd")
SOME = st.lists(DEVICES, max_size=4).map(tuple)
ROUNDS = st.integers(-1, 3)
TIMES = st.floats(0.0, 30.0)
DECISIONS = st.sampled_from(Decision)
HERE = (Stage.FOLDED, Stage.SENT)

EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(ShareArrived, round=ROUNDS, devices=SOME, deadline_at_s=st.sampled_from([0.0, 20.0]), now_s=TIMES),
    st.builds(UpdateArrived, device=DEVICES, round=ROUNDS, now_s=TIMES),
    st.builds(AssignmentFailed, device=DEVICES, round=ROUNDS, now_s=TIMES),
    st.builds(DeviceLeft, device=DEVICES, now_s=TIMES),
    st.builds(
        PartialArrived,
        child=st.sampled_from("pq"),
        number=st.integers(1, 3),
        round=ROUNDS,
        counted=SOME,
        failed=SOME,
        now_s=TIMES,
    ),
    st.builds(SubmissionAnswered, number=st.integers(0, 5), decision=DECISIONS, devices=SOME, now_s=TIMES),
    st.builds(UplinkRestored, now_s=TIMES),
    st.builds(RoundClosed, round=ROUNDS, now_s=TIMES),
    st.builds(Tick, now_s=TIMES),
)


@st.composite
def aimed(draw: st.DrawFn, state: TierState) -> Event:
    """An event that mostly fits `state`, so that rounds get far."""
    if draw(st.integers(0, 5)) == 0:
        return draw(EVENTS)
    now_s = state.now_s + draw(st.sampled_from([0.0, 1.0]))
    kind = draw(st.integers(0, 7))
    if state.submissions and kind <= 1:
        flight = draw(st.sampled_from(list(state.submissions.values())))
        decision = draw(st.sampled_from([Decision.ACCEPTED, Decision.OVERLAP, Decision.OVERLAP, Decision.LATE]))
        named = draw(st.lists(st.sampled_from(flight.devices or ("a",)), min_size=1, max_size=3, unique=True))
        return SubmissionAnswered(number=flight.number, decision=decision, devices=tuple(named), now_s=now_s)
    if state.devices and kind <= 3:
        return UpdateArrived(device=draw(DEVICES), round=state.round, now_s=now_s)
    if state.devices and kind <= 5:
        counted = draw(st.lists(DEVICES, max_size=3, unique=True))
        return PartialArrived(
            child=draw(st.sampled_from("pq")),
            number=draw(st.integers(1, 6)),
            round=state.round,
            counted=tuple(counted),
            failed=(),
            now_s=now_s,
        )
    if state.devices and kind == 6:
        return DeviceLeft(device=draw(DEVICES), now_s=now_s)
    index = max(1, state.round + state.over + (draw(st.integers(0, 5)) == 0))
    return ShareArrived(
        round=index, devices=draw(SOME), deadline_at_s=now_s + draw(st.sampled_from([0.0, 9.0])), now_s=now_s
    )


def check_state(state: TierState) -> None:
    """What must hold of every state: each update is here at most once, in one submission at most."""
    flying = [device for flight in state.submissions.values() for device in flight.devices]
    assert sorted(flying) == sorted(device for device, relayed in state.devices.items() if relayed.stage is Stage.SENT)
    in_flights = [part for flight in state.submissions.values() for part in flight.parts]
    assert len(in_flights) == len(set(in_flights)) and set(in_flights) <= set(state.parts)
    for part, devices in state.parts.items():
        assert all(state.devices[each].part == part and state.devices[each].stage in HERE for each in devices)
    assert all(relayed.part is None or relayed.part in state.parts for relayed in state.devices.values())
    assert not set(state.parts) & set(state.claims)
    assert not (state.over and (state.parts or state.submissions))
    for claim in state.claims.values():
        assert claim.round >= state.round + state.over


def check_not_stuck(state: TierState) -> None:
    """Whatever is held waits for a pending device, and then for its deadline, or for a submission under way."""
    held = any(relayed.stage is Stage.FOLDED for relayed in state.devices.values())
    if held:
        assert any(relayed.stage is Stage.PENDING for relayed in state.devices.values())
        assert state.submissions or state.now_s < state.deadline_at_s
    for claim in state.claims.values():
        if claim.round == state.round:
            assert any(state.holds(each) for each in claim.counted)


def check_step(before: TierState, event: Event, after: TierState, out: tuple[Command, ...]) -> None:
    """What must hold of every single step."""
    assert step(before, event) == (after, out)
    assert after.now_s == max(before.now_s, event.now_s)
    assert after.round >= before.round and after.number >= before.number
    assert sum(isinstance(each, Forget) for each in out) == (
        (after.round, after.over) != (before.round, before.over) and (before.round > 0 or after.over)
    ) or isinstance(event, RoundClosed)
    known = before.devices if after.round == before.round else {}
    for order in out:
        match order:
            case Acknowledge(decision=Decision.ACCEPTED):
                counted = isinstance(event, SubmissionAnswered) and event.decision in (
                    Decision.ACCEPTED,
                    Decision.OVERLAP,
                )
                assert counted or known[order.device].stage is Stage.COUNTED
            case AnswerChild(decision=Decision.OVERLAP):
                assert order.devices
                for device in order.devices:
                    assert after.devices[device].stage is Stage.COUNTED or order.part in before.answers
            case Send():
                assert after.submissions[order.number].devices == order.devices == tuple(sorted(set(order.devices)))
                assert order.number == before.number + 1 and not set(order.devices) & set(order.failed)
            case Fold() | Push():
                assert order.round == after.round
    assert sum(isinstance(each, Send) for each in out) <= 1


def check_sums(history: list[tuple[TierState, tuple[Command, ...]]]) -> None:
    """Play the shell: a submission carries what was held since the last one, each update once, and nothing else."""
    total: Counter[str] = Counter()
    for after, out in history:
        for order in out:
            match order:
                case Fold():
                    total[order.device] += 1
                case MergePartial():
                    total.update(set(after.parts[order.part]))
                case Forget():
                    total.clear()
                case Send():
                    assert total == Counter(order.devices)
                    total.clear()


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_no_order_of_events_breaks_a_rule(data: st.DataObject) -> None:
    state = TierState(number=data.draw(st.sampled_from([0, 100])))
    history = []
    for _ in range(data.draw(st.integers(0, 30))):
        event = data.draw(aimed(state))
        after, out = step(state, event)
        check_state(after)
        check_not_stuck(after)
        check_step(state, event, after, out)
        history.append((after, out))
        state = after
    check_sums(history)


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_arbitrary_events_never_raise(events: list[Event]) -> None:
    state = TierState()
    for event in events:
        after, out = step(state, event)
        check_state(after)
        check_not_stuck(after)
        check_step(state, event, after, out)
        state = after


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_answers_alone_empty_an_edge(data: st.DataObject) -> None:
    """Past its deadline, whatever came before: once the tier above answers, nothing stays here without a decision."""
    state = TierState()
    for _ in range(data.draw(st.integers(0, 30))):
        state, _ = step(state, data.draw(aimed(state)))
    state, _ = step(state, Tick(now_s=max(state.now_s, state.deadline_at_s)))
    for _ in range(30):
        if not state.submissions:
            break
        state, _ = step(
            state, SubmissionAnswered(number=min(state.submissions), decision=Decision.ACCEPTED, now_s=state.now_s)
        )
    assert not state.submissions and not state.parts
    assert not any(relayed.stage in HERE for relayed in state.devices.values())
    assert all(claim.round > state.round for claim in state.claims.values())
