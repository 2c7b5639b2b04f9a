"""The rules of the round machine, one by one, with exact times."""

from dataclasses import replace
from typing import get_args

from fedcore.core.rounds.commands import (
    Accept,
    AckDuplicate,
    Command,
    Fence,
    Finish,
    Pause,
    Push,
    RefuseLate,
    RefuseUnknown,
    Turn,
    WakeAt,
)
from fedcore.core.rounds.events import (
    Alive,
    Event,
    Joined,
    Left,
    Planned,
    Started,
    Stop,
    Tick,
    TurnDone,
    UpdateArrived,
    UpdateRefused,
)
from fedcore.core.rounds.machine import RULES, resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberStatus
from fedcore.core.rounds.state import Phase, RoundState

POLICY = RoundPolicy(
    total_rounds=2,
    quorum=0.5,
    deadline_s=100.0,
    lease_s=30.0,
    min_devices=2,
    max_void_rounds=3,
    join_deadline_s=60.0,
)
ONE_ROUND = RoundPolicy(
    total_rounds=1, quorum=1.0, deadline_s=100.0, lease_s=30.0, min_devices=1, max_void_rounds=3, join_deadline_s=60.0
)


def run(state: RoundState, *events: Event) -> tuple[RoundState, list[Command]]:
    out: list[Command] = []
    for event in events:
        state, commands = step(state, event)
        out += commands
    return state, out


def opened(policy: RoundPolicy = POLICY, devices: str = "ab") -> RoundState:
    """Round 1, open at t = 1, with every device in it."""
    joins = [Joined(device=name, epoch=1, now_s=0.0) for name in devices]
    state, _ = run(resume(policy), Started(now_s=0.0), *joins, Planned(round=1, cohort=tuple(devices), now_s=1.0))
    assert state.phase is Phase.OPEN
    return state


def arrived(device: str, now_s: float, index: int = 1) -> UpdateArrived:
    return UpdateArrived(device=device, round=index, now_s=now_s)


def turn_in(commands: list[Command]) -> Turn:
    (turn,) = [command for command in commands if isinstance(command, Turn)]
    return turn


def statuses(turn: Turn) -> dict[str, MemberStatus]:
    assert turn.closed is not None
    return {each.device: each.status for each in turn.closed.members}


def test_start_waits_for_min_devices_then_plans() -> None:
    state, out = run(resume(POLICY), Started(now_s=5.0), Joined(device="b", epoch=1, now_s=6.0))
    assert (state.phase, out) == (Phase.WAITING, [WakeAt(at_s=65.0)])
    state, out = run(state, Joined(device="a", epoch=1, now_s=7.0))
    assert state.phase is Phase.PLANNING
    assert out == [Turn(closed=None, next_round=1, roster=("a", "b"))]


def test_devices_that_came_before_the_start_count() -> None:
    joins = [Joined(device=name, epoch=1, now_s=0.0) for name in "ab"]
    state, out = run(resume(POLICY), *joins)
    assert (state.phase, out) == (Phase.WAITING, [])
    _, out = run(state, Started(now_s=1.0))
    assert out == [Turn(closed=None, next_round=1, roster=("a", "b"))]


def test_devices_without_work_pause_the_run_in_other_words() -> None:
    state, _ = run(resume(POLICY), Started(now_s=0.0), Joined(device="a", epoch=1, now_s=1.0))
    state, _ = run(state, Joined(device="b", epoch=1, now_s=1.0), Planned(round=1, cohort=(), now_s=2.0))
    alive = [Alive(device=name, epoch=1, now_s=t) for t in (20.0, 40.0, 60.0) for name in "ab"]
    _, out = run(state, *alive, Tick(now_s=62.0))
    (pause,) = [command for command in out if isinstance(command, Pause)]
    assert pause.reason.startswith("round 1: there was no work for the 2 device(s) that are here")


def test_too_few_devices_pause_the_run_at_the_join_deadline() -> None:
    state, out = run(resume(POLICY), Started(now_s=0.0), Joined(device="a", epoch=1, now_s=40.0), Tick(now_s=60.0))
    assert state.phase is Phase.PAUSED
    (pause,) = [command for command in out if isinstance(command, Pause)]
    assert "needs 2 device(s) and 1 were here after 60 s" in pause.reason
    assert state.wake_at_s is None


def test_opening_pushes_in_name_order_and_wakes_at_the_first_lease_end() -> None:
    state, _ = run(resume(POLICY), Started(now_s=0.0), *(Joined(device=name, epoch=1, now_s=0.0) for name in "ba"))
    _, out = run(state, Planned(round=1, cohort=("b", "a"), now_s=1.0))
    assert out == [Push(device="a", round=1), Push(device="b", round=1), WakeAt(at_s=30.0)]


def test_round_closes_at_once_when_all_are_resolved_and_reports_times() -> None:
    state, out = run(opened(), arrived("b", 3.0), arrived("a", 4.0))
    assert out[:2] == [Accept(device="b", round=1), Accept(device="a", round=1)]
    turn = turn_in(out)
    assert turn.next_round == 2 and turn.roster == ("a", "b")
    assert turn.closed is not None and not turn.closed.void
    assert [(each.device, each.pushed_at_s, each.accepted_at_s) for each in turn.closed.members] == [
        ("a", 1.0, 4.0),
        ("b", 1.0, 3.0),
    ]
    assert (turn.closed.opened_at_s, turn.closed.closed_at_s) == (1.0, 4.0)
    assert state.phase is Phase.PLANNING and state.wake_at_s is None


def test_deadline_closes_with_quorum_and_the_rest_missed_it() -> None:
    talking = [Alive(device="b", epoch=1, now_s=t) for t in (25.0, 50.0, 75.0, 100.9)]
    state, out = run(opened(), arrived("a", 3.0), *talking)
    assert state.phase is Phase.OPEN
    _, out = run(state, Tick(now_s=101.0))
    turn = turn_in(out)
    assert statuses(turn) == {"a": MemberStatus.ACCEPTED, "b": MemberStatus.MISSED_DEADLINE}
    assert turn.closed is not None and not turn.closed.void


def test_an_update_at_the_deadline_itself_is_late_without_any_tick() -> None:
    state = opened()
    for t in (25.0, 50.0, 75.0, 100.0):
        state, _ = run(state, *(Alive(device=name, epoch=1, now_s=t) for name in "ab"))
    state, out = run(state, arrived("a", 101.0))
    turn = turn_in(out)
    assert set(statuses(turn).values()) == {MemberStatus.MISSED_DEADLINE}
    assert turn.closed is not None and turn.closed.void
    assert out[-1] == RefuseLate(device="a", round=1)
    assert state.void_streak == 1 and state.round == 2


def test_closed_stream_alone_loses_nobody_but_the_lease_does() -> None:
    state, out = run(opened(), Left(device="a", epoch=1, now_s=10.0), arrived("b", 12.0), Tick(now_s=29.9))
    assert state.phase is Phase.OPEN and out[-1] == WakeAt(at_s=30.0)
    _, out = run(state, Tick(now_s=30.0))
    assert statuses(turn_in(out)) == {"a": MemberStatus.LOST, "b": MemberStatus.ACCEPTED}
    assert turn_in(out).roster == ("b",)


def test_signs_of_life_renew_the_lease_without_a_command_each() -> None:
    state, out = run(opened(), *(Alive(device=name, epoch=1, now_s=20.0) for name in "ab"))
    assert out == [] and state.wake_at_s == 30.0
    state, out = run(state, Tick(now_s=30.0))
    assert state.phase is Phase.OPEN and out == [WakeAt(at_s=50.0)]


def test_returning_device_gets_the_open_assignment_again_and_its_time_runs_on() -> None:
    state, _ = run(opened(), Left(device="a", epoch=1, now_s=10.0), Alive(device="b", epoch=1, now_s=28.0))
    state, _ = run(state, Tick(now_s=31.0))
    assert state.members["a"].status is MemberStatus.LOST
    state, out = run(state, Joined(device="a", epoch=2, now_s=40.0))
    assert out[0] == Push(device="a", round=1)
    _, out = run(state, arrived("a", 45.0), arrived("b", 46.0))
    closed = turn_in(out).closed
    assert closed is not None
    assert [(each.pushed_at_s, each.accepted_at_s) for each in closed.members] == [(1.0, 45.0), (1.0, 46.0)]


def test_silent_device_that_speaks_again_is_pending_without_another_push() -> None:
    state, _ = run(opened(), Alive(device="b", epoch=1, now_s=20.0), Tick(now_s=30.0))
    assert state.members["a"].status is MemberStatus.LOST
    state, out = run(state, Alive(device="a", epoch=1, now_s=35.0))
    assert state.members["a"].status is None
    assert not [command for command in out if isinstance(command, Push)]


def test_own_sign_of_life_counts_before_its_lease_is_checked() -> None:
    """A coordinator that was busy for longer than a lease does not lose the devices that kept talking."""
    state, _ = run(opened(ONE_ROUND, "a"), Alive(device="a", epoch=1, now_s=31.0))
    assert state.phase is Phase.OPEN and state.members["a"].status is None


def test_accepted_device_that_reconnects_just_goes_on() -> None:
    state, _ = run(opened(), arrived("a", 3.0))
    state, out = run(state, Joined(device="a", epoch=2, now_s=5.0), arrived("a", 6.0))
    assert out == [Fence(device="a", epoch=1), AckDuplicate(device="a", round=1)]
    assert state.members["a"].accepted_at_s == 3.0


def test_newer_epoch_fences_the_older_stream_and_an_old_one_fences_itself() -> None:
    state, out = run(opened(), Joined(device="a", epoch=3, now_s=2.0))
    assert out == [Fence(device="a", epoch=1), Push(device="a", round=1)]
    for stale in (2, 3):
        after, out = run(state, Joined(device="a", epoch=stale, now_s=2.0))
        assert out == [Fence(device="a", epoch=stale)] and after.sessions == state.sessions
    after, _ = run(state, Left(device="a", epoch=1, now_s=3.0), Alive(device="a", epoch=1, now_s=9.0))
    assert after.sessions["a"] == state.sessions["a"]


def test_updates_without_an_open_assignment_are_unknown() -> None:
    state = opened()
    _, out = run(state, arrived("c", 2.0), arrived("a", 2.0, index=2), arrived("a", 2.0, index=0))
    assert out == [
        RefuseUnknown(device="c", round=1),
        RefuseUnknown(device="a", round=2),
        RefuseUnknown(device="a", round=0),
    ]


def test_closed_round_is_late_for_who_missed_it_and_a_duplicate_for_who_was_counted() -> None:
    state, _ = run(opened(), arrived("a", 3.0), UpdateRefused(device="b", round=1, now_s=4.0))
    assert state.phase is Phase.PLANNING
    _, out = run(state, arrived("a", 5.0), arrived("b", 5.0), arrived("c", 5.0))
    assert out == [
        AckDuplicate(device="a", round=1),
        RefuseLate(device="b", round=1),
        RefuseUnknown(device="c", round=1),
    ]


def test_rejected_update_is_resolved_and_cannot_be_sent_again() -> None:
    state, out = run(opened(), UpdateRefused(device="a", round=1, now_s=2.0), arrived("a", 3.0))
    assert out == [RefuseUnknown(device="a", round=1)]
    _, out = run(state, arrived("b", 4.0))
    assert statuses(turn_in(out)) == {"a": MemberStatus.REJECTED, "b": MemberStatus.ACCEPTED}


def test_all_resolved_below_quorum_is_void_at_once_and_does_not_count() -> None:
    rejected = [UpdateRefused(device=name, round=1, now_s=2.0) for name in "ab"]
    state, out = run(opened(), *rejected)
    turn = turn_in(out)
    assert turn.closed is not None and turn.closed.void and turn.next_round == 2
    assert (state.round, state.void_streak, state.void_rounds) == (2, 1, 1)
    state, out = run(state, Planned(round=2, cohort=("a",), now_s=3.0), arrived("a", 4.0, index=2))
    assert turn_in(out).next_round == 3 and state.void_streak == 0  # one round of two has counted


def test_three_void_rounds_in_a_row_pause_after_the_third_is_durable() -> None:
    state, out = opened(), []
    for index in (1, 2, 3):
        state, out = run(state, *(UpdateRefused(device=name, round=index, now_s=2.0 + index) for name in "ab"))
        assert turn_in(out).closed is not None and state.phase is Phase.PLANNING
        state, out = run(state, Planned(round=index + 1, cohort=("a", "b"), now_s=2.5 + index))
    assert state.phase is Phase.PAUSED
    (pause,) = out
    assert isinstance(pause, Pause) and "3 rounds in a row missed quorum (round 3: 0 of 2 updates)" in pause.reason


def test_last_round_finishes_after_its_result_is_durable() -> None:
    state, out = run(opened(ONE_ROUND, "a"), arrived("a", 2.0))
    assert turn_in(out).next_round is None
    state, out = run(state, TurnDone(now_s=3.0))
    assert (state.phase, out) == (Phase.DONE, [Finish()])
    _, out = run(state, arrived("a", 4.0), Tick(now_s=900.0), Stop(now_s=901.0))
    assert out == [AckDuplicate(device="a", round=1)]


def test_newcomer_waits_for_the_next_round() -> None:
    state, out = run(opened(), Joined(device="c", epoch=1, now_s=2.0))
    assert out == [] and "c" not in state.members
    _, out = run(state, arrived("a", 3.0), arrived("b", 3.0))
    assert turn_in(out).roster == ("a", "b", "c")


def test_empty_plan_waits_for_a_join_and_plans_the_same_round_again() -> None:
    joined = [Joined(device=name, epoch=1, now_s=0.0) for name in "ab"]
    state, _ = run(resume(POLICY), Started(now_s=0.0), *joined)
    state, out = run(state, Planned(round=1, cohort=(), now_s=2.0), Tick(now_s=3.0))
    assert state.phase is Phase.WAITING and set(out) == {WakeAt(at_s=62.0)}
    _, out = run(state, Joined(device="c", epoch=1, now_s=4.0))
    assert out == [Turn(closed=None, next_round=1, roster=("a", "b", "c"))]
    state, out = run(state, Tick(now_s=62.0))
    assert state.phase is Phase.PAUSED


def test_device_that_came_while_an_empty_plan_was_made_is_not_forgotten() -> None:
    state, _ = run(opened(ONE_ROUND, "a"), Left(device="a", epoch=1, now_s=2.0), Tick(now_s=30.0))
    assert state.phase is Phase.PLANNING
    state, _ = run(state, Joined(device="a", epoch=2, now_s=31.0))
    _, out = run(state, Planned(round=2, cohort=(), now_s=32.0))
    assert out == [Turn(closed=None, next_round=2, roster=("a",))]


def test_member_that_left_while_planning_is_pushed_when_it_returns() -> None:
    joins = [Joined(device=name, epoch=1, now_s=0.0) for name in "ab"]
    state, _ = run(resume(POLICY), Started(now_s=0.0), *joins, Left(device="a", epoch=1, now_s=0.5))
    state, out = run(state, Planned(round=1, cohort=("a", "b"), now_s=1.0))
    assert [command for command in out if isinstance(command, Push)] == [Push(device="b", round=1)]
    state, out = run(state, Joined(device="a", epoch=2, now_s=9.0))
    assert out == [Push(device="a", round=1)] and state.members["a"].pushed_at_s == 9.0


def test_member_not_seen_since_a_restart_has_a_lease_from_the_opening() -> None:
    state, _ = run(resume(ONE_ROUND), Started(now_s=0.0), Joined(device="a", epoch=1, now_s=0.0))
    state, _ = run(state, Planned(round=1, cohort=("a", "z"), now_s=10.0), arrived("a", 11.0))
    state, _ = run(state, Tick(now_s=39.9))
    assert state.phase is Phase.OPEN
    _, out = run(state, Tick(now_s=40.0))
    assert statuses(turn_in(out)) == {"a": MemberStatus.ACCEPTED, "z": MemberStatus.LOST}


def test_stop_gives_up_the_open_round_at_once() -> None:
    state, out = run(opened(), Stop(now_s=5.0))
    assert state.phase is Phase.PAUSED and state.round == 1
    assert out == [Pause(reason="stopped on request in round 1; this round starts anew when the run is resumed")]


def test_stop_lets_the_commit_under_way_end_but_a_second_stop_does_not_wait() -> None:
    state, _ = run(opened(), arrived("a", 3.0), arrived("b", 3.0))
    asked, out = run(state, Stop(now_s=4.0))
    assert (asked.phase, out) == (Phase.PLANNING, [])
    ended, out = run(asked, Planned(round=2, cohort=("a", "b"), now_s=5.0))
    assert ended.phase is Phase.PAUSED and isinstance(out[0], Pause)
    ended, out = run(asked, Stop(now_s=5.0))
    assert ended.phase is Phase.PAUSED and isinstance(out[0], Pause)


def test_resume_goes_on_with_a_later_round_and_its_streak() -> None:
    state, out = run(
        resume(POLICY, next_round=7, void_streak=2, void_rounds=6),
        Started(now_s=0.0),
        *(Joined(device=name, epoch=1, now_s=0.0) for name in "ab"),
    )
    assert turn_in(out).next_round == 7
    state, _ = run(state, Planned(round=7, cohort=("a",), now_s=1.0), UpdateRefused(device="a", round=7, now_s=2.0))
    assert state.pause_reason is not None and state.void_streak == 3
    assert resume(POLICY, next_round=8, void_streak=3).void_streak == 0


def test_resume_after_the_last_round_only_finishes() -> None:
    state, out = run(resume(POLICY, next_round=3), Started(now_s=0.0))
    assert out == [Turn(closed=None, next_round=None, roster=())]
    assert run(state, TurnDone(now_s=1.0))[1] == [Finish()]


def test_answers_nobody_asked_for_change_nothing() -> None:
    state = opened()
    for event in (Planned(round=1, cohort=("z",), now_s=1.0), TurnDone(now_s=1.0), Started(now_s=1.0)):
        assert run(state, event) == (state, [])
    waiting, _ = run(state, arrived("a", 2.0), arrived("b", 2.0))
    assert run(waiting, Planned(round=5, cohort=("a",), now_s=2.0)) == (waiting, [])
    assert run(waiting, TurnDone(now_s=2.0)) == (waiting, [])


def test_no_event_answers_the_turn_that_begins_in_its_own_step() -> None:
    """The deadline closes round 1 first; a plan of round 2 that comes with it was made before there was that turn."""
    patient = replace(POLICY, lease_s=1000.0)
    state, out = run(opened(patient), Planned(round=2, cohort=("a",), now_s=101.0))
    assert state.phase is Phase.PLANNING and state.round == 2 and turn_in(out).next_round == 2
    state, _ = run(state, Planned(round=2, cohort=("a",), now_s=101.0))
    assert state.phase is Phase.OPEN and state.opened_at_s == 101.0
    last = opened(replace(patient, total_rounds=1))
    state, out = run(last, arrived("a", 5.0), TurnDone(now_s=101.0))
    assert turn_in(out).next_round is None
    assert state.phase is Phase.PLANNING and not any(isinstance(command, Finish) for command in out)


def test_every_event_has_a_rule() -> None:
    assert RULES.keys() == set(get_args(Event))


def test_time_never_goes_back() -> None:
    state, _ = run(opened(), arrived("a", 25.0), arrived("b", 20.0))
    assert state.now_s == 25.0 and state.closed is not None
    assert [each.accepted_at_s for each in state.closed.members] == [25.0, 25.0]


def test_roster_leaves_out_closed_streams_and_expired_leases() -> None:
    state, _ = run(opened(devices="abc"), Left(device="a", epoch=1, now_s=20.0))
    state, _ = run(state, *(Alive(device=name, epoch=1, now_s=20.0) for name in "ac"))
    assert state.roster == ("b", "c")
    state, out = run(state, arrived("a", 35.0), arrived("c", 36.0))  # at 35, b has been silent for a lease
    assert statuses(turn_in(out))["b"] is MemberStatus.LOST
    assert turn_in(out).roster == ("c",)


def test_silent_stream_that_speaks_again_ends_the_wait_of_an_empty_plan() -> None:
    state, _ = run(opened(ONE_ROUND, "a"), Tick(now_s=31.0))
    state, out = run(state, Planned(round=2, cohort=(), now_s=32.0))
    assert state.phase is Phase.WAITING and out == [WakeAt(at_s=92.0)]
    _, out = run(state, Alive(device="a", epoch=1, now_s=50.0))
    assert out == [Turn(closed=None, next_round=2, roster=("a",))]


def test_once_running_one_device_is_enough_to_go_on() -> None:
    state, _ = run(opened(), *(Left(device=name, epoch=1, now_s=2.0) for name in "ab"), Tick(now_s=30.0))
    state, _ = run(state, Planned(round=2, cohort=(), now_s=31.0))
    _, out = run(state, Joined(device="b", epoch=2, now_s=32.0))
    assert out == [Turn(closed=None, next_round=2, roster=("b",))]
