"""Properties of the round machine under any order of events, also ones no sane shell would send."""

import dataclasses
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.rounds.commands import Accept, AcceptPartial, Command, Finish, Pause, Push, Turn, WakeAt
from fedcore.core.rounds.events import (
    Alive,
    Event,
    Joined,
    Left,
    PartialArrived,
    Planned,
    Started,
    Stop,
    Tick,
    TurnDone,
    UpdateArrived,
    UpdateRefused,
)
from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberStatus
from fedcore.core.rounds.state import Phase, RoundState

DEVICES = st.sampled_from(["a", "b", "c", "d"])
EPOCHS = st.integers(0, 3)
ROUNDS = st.integers(-1, 6)
TIMES = st.floats(0.0, 300.0)

POLICIES = st.builds(
    RoundPolicy,
    total_rounds=st.integers(1, 4),
    quorum=st.sampled_from([0.01, 0.5, 1.0]),
    deadline_s=st.sampled_from([5.0, 40.0]),
    lease_s=st.sampled_from([3.0, 30.0]),
    min_devices=st.integers(1, 3),
    max_void_rounds=st.integers(1, 3),
    join_deadline_s=st.sampled_from([4.0, 50.0]),
)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[str, ...]:
    return tuple(draw(st.lists(st.sampled_from(["a", "b", "c", "d", "never-seen"]), max_size=5)))


EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, now_s=TIMES),
    st.builds(Joined, device=DEVICES, epoch=EPOCHS, now_s=TIMES),
    st.builds(Left, device=DEVICES, epoch=EPOCHS, now_s=TIMES, lost=st.booleans()),
    st.builds(Alive, device=DEVICES, epoch=EPOCHS, now_s=TIMES),
    st.builds(UpdateArrived, device=DEVICES, round=ROUNDS, now_s=TIMES),
    st.builds(UpdateRefused, device=DEVICES, round=ROUNDS, now_s=TIMES),
    st.builds(
        PartialArrived,
        edge=st.just("edge"),
        number=st.integers(1, 3),
        round=ROUNDS,
        device_times=st.lists(st.tuples(DEVICES, TIMES), max_size=4, unique_by=lambda pair: pair[0]).map(tuple),
        now_s=TIMES,
    ),
    st.builds(Planned, round=ROUNDS, cohort=cohorts(), now_s=TIMES),
    st.builds(TurnDone, now_s=TIMES),
    st.builds(Tick, now_s=TIMES),
    st.builds(Stop, now_s=TIMES),
)


@st.composite
def aimed(draw: st.DrawFn, state: RoundState) -> Event:
    """An event that mostly fits `state`, so that runs get far; one in six is anything at all."""
    if draw(st.integers(0, 5)) == 0:
        return draw(EVENTS)
    now_s = state.now_s + draw(st.sampled_from([0.0, 0.5, 2.0, 20.0]))
    device = draw(DEVICES)
    epoch = state.sessions[device].epoch if device in state.sessions else 0
    if state.phase is Phase.PLANNING and draw(st.booleans()):
        if state.is_last:
            return TurnDone(now_s=now_s)
        return Planned(round=state.round, cohort=draw(cohorts()), now_s=now_s)
    kind = draw(st.integers(0, 8))
    if kind == 8:
        times = draw(st.lists(st.tuples(DEVICES, TIMES), max_size=3, unique_by=lambda pair: pair[0]))
        return PartialArrived(edge="edge", number=1, round=state.round, device_times=tuple(times), now_s=now_s)
    if kind <= 1:
        return Joined(device=device, epoch=epoch + 1, now_s=now_s)
    if kind == 2:
        return Left(device=device, epoch=epoch, now_s=now_s)
    if kind == 3:
        return Alive(device=device, epoch=epoch, now_s=now_s)
    if kind <= 5:
        return UpdateArrived(device=device, round=state.round - draw(st.integers(0, 1)), now_s=now_s)
    if kind == 6:
        return UpdateRefused(device=device, round=state.round, now_s=now_s)
    return Tick(now_s=now_s if state.wake_at_s is None else max(now_s, state.wake_at_s))


def check_transition(before: RoundState, event: Event, after: RoundState, out: tuple[Command, ...]) -> None:
    """What must hold of every single step."""
    assert step(before, event) == (after, out)
    assert after.now_s == max(before.now_s, event.now_s)
    assert vars(after).keys() == {each.name for each in dataclasses.fields(after)}
    assert after.pending == sum(member.status is None for member in after.members.values())
    assert after.connected == sum(session.connected for session in after.sessions.values())
    assert after.round - before.round in (0, 1)
    assert (after.round == before.round + 1) == any(isinstance(each, Turn) and each.closed is not None for each in out)
    assert sum(isinstance(each, Turn) for each in out) <= 1
    if before.phase in (Phase.DONE, Phase.PAUSED):
        assert after.phase is before.phase
        assert not [
            each for each in out if isinstance(each, Turn | Push | Accept | AcceptPartial | WakeAt | Pause | Finish)
        ]
    if before.phase is Phase.OPEN and after.now_s >= before.deadline_at_s:
        assert after.phase is not Phase.OPEN, "a round stayed open over its deadline"
        assert not [each for each in out if isinstance(each, Accept | AcceptPartial)], "a late update was accepted"
    if after.phase is Phase.OPEN:
        assert any(member.status is None for member in after.members.values())
    else:
        assert not after.members


def check_waiting(state: RoundState) -> None:
    """Whatever waits for time has a wake-up no later than its first time-out."""
    if state.phase is Phase.OPEN:
        assert state.wake_at_s is not None and state.wake_at_s <= state.deadline_at_s
        pending = [device for device, member in state.members.items() if member.status is None]
        assert state.wake_at_s <= min(state.lease_end_s(device) for device in pending)
    elif state.phase is Phase.WAITING and state.wait_until_s is not None:
        assert state.wake_at_s is not None and state.wake_at_s <= state.wait_until_s
    else:
        assert state.wake_at_s is None


def check_history(policy: RoundPolicy, out: list[Command]) -> None:
    """What must hold of a whole run: rounds in order, one acceptance per key, results that agree with it."""
    accepted = Counter((each.device, each.round) for each in out if isinstance(each, Accept))
    partials = [each for each in out if isinstance(each, AcceptPartial)]
    accepted.update((device, each.round) for each in partials for device in each.devices)
    assert all(count == 1 for count in accepted.values())
    closed = [each.closed for each in out if isinstance(each, Turn) and each.closed is not None]
    assert [each.round for each in closed] == list(range(1, len(closed) + 1))
    streak = 0
    for result in closed:
        assert streak < policy.max_void_rounds, "a run went on after too many void rounds"
        assert {(device, result.round) for device in result.accepted} == {
            key for key in accepted if key[1] == result.round
        }
        assert result.void == (len(result.accepted) < policy.quorum_count(len(result.members)))
        streak = streak + 1 if result.void else 0
        for member in result.members:
            assert (member.accepted_at_s is not None) == (member.status is MemberStatus.ACCEPTED)
            ended = result.closed_at_s if member.accepted_at_s is None else member.accepted_at_s
            assert result.opened_at_s <= member.pushed_at_s <= ended <= result.closed_at_s
    assert sum(not each.void for each in closed) <= policy.total_rounds
    assert sum(isinstance(each, Pause | Finish) for each in out) <= 1


@settings(max_examples=150, deadline=None)
@given(st.data(), POLICIES)
def test_no_order_of_events_breaks_a_rule(data: st.DataObject, policy: RoundPolicy) -> None:
    state = resume(policy)
    history: list[Command] = []
    if data.draw(st.integers(0, 9)):
        state, out = step(state, Started(now_s=0.0))
        history += out
    for _ in range(data.draw(st.integers(0, 40))):
        event = data.draw(aimed(state))
        after, out = step(state, event)
        check_transition(state, event, after, out)
        check_waiting(after)
        history += out
        state = after
    check_history(policy, history)


@settings(max_examples=100, deadline=None)
@given(POLICIES, st.lists(EVENTS, max_size=30))
def test_arbitrary_events_never_raise_and_never_leave_the_states(policy: RoundPolicy, events: list[Event]) -> None:
    state, history = resume(policy), []
    for event in events:
        after, out = step(state, event)
        check_transition(state, event, after, out)
        check_waiting(after)
        history += out
        state = after
    check_history(policy, history)


@settings(max_examples=80, deadline=None)
@given(st.data(), POLICIES)
def test_a_shell_that_ticks_when_asked_always_reaches_the_end(data: st.DataObject, policy: RoundPolicy) -> None:
    """No round blocks: with devices that come, fail and vanish as they like, answers and Ticks alone end the run."""
    state, out = step(resume(policy), Started(now_s=0.0))
    last_wake = next((each.at_s for each in out if isinstance(each, WakeAt)), None)
    for _ in range(600):
        if state.phase in (Phase.DONE, Phase.PAUSED):
            return
        event: Event
        if state.phase is Phase.PLANNING:
            event = TurnDone(now_s=state.now_s)
            if not state.is_last:
                event = Planned(round=state.round, cohort=state.roster, now_s=state.now_s)
        elif data.draw(st.integers(0, 3)) == 0:
            assert last_wake is not None
            event = Tick(now_s=max(state.now_s, last_wake))
        else:
            event = data.draw(aimed(state))
        state, out = step(state, event)
        last_wake = next((each.at_s for each in reversed(out) if isinstance(each, WakeAt)), last_wake)
    raise AssertionError(f"still {state.phase} in round {state.round} after 600 events")


@settings(max_examples=60, deadline=None)
@given(POLICIES, st.lists(st.floats(0.0, 10.0), min_size=1, max_size=4))
def test_ticks_alone_close_a_round_in_which_everybody_vanished(policy: RoundPolicy, seen: list[float]) -> None:
    names = "abcd"[: len(seen)]
    policy = dataclasses.replace(policy, min_devices=1, max_void_rounds=1)
    state, _ = step(resume(policy), Started(now_s=0.0))
    for name in names:
        state, _ = step(state, Joined(device=name, epoch=1, now_s=0.0))
    state, _ = step(state, Planned(round=1, cohort=tuple(names), now_s=0.0))
    for name, time_s in sorted(zip(names, seen, strict=True), key=lambda pair: pair[1]):
        state, _ = step(state, Alive(device=name, epoch=1, now_s=time_s))
        state, _ = step(state, Left(device=name, epoch=1, now_s=time_s))
    ticks = 0
    while state.phase is Phase.OPEN:
        assert state.wake_at_s is not None
        state, _ = step(state, Tick(now_s=state.wake_at_s))
        ticks += 1
        assert ticks <= len(names) + 2
    assert state.closed is not None and state.closed.void
    assert state.now_s <= policy.deadline_s + 10.0


def test_a_cohort_of_a_thousand_closes_with_everybody_counted() -> None:
    policy = RoundPolicy(
        total_rounds=1, quorum=1.0, deadline_s=1e6, lease_s=1e6, min_devices=1, max_void_rounds=1, join_deadline_s=1e6
    )
    names = tuple(f"device-{index:04d}" for index in range(1000))
    state, _ = step(resume(policy), Started(now_s=0.0))
    for name in names:
        state, _ = step(state, Joined(device=name, epoch=1, now_s=0.0))
    state, out = step(state, Planned(round=1, cohort=names, now_s=1.0))
    assert len([each for each in out if isinstance(each, Push)]) == 1000
    for name in names:
        state, out = step(state, UpdateArrived(device=name, round=1, now_s=2.0))
        assert isinstance(out[0], Accept)
    assert state.closed is not None and len(state.closed.accepted) == 1000
