"""Partials of edges at the round machine: all devices together or none, and no device twice."""

import pytest

from fedcore.core.rounds.commands import AcceptPartial, RefuseOverlap, RefusePartial, Turn
from fedcore.core.rounds.events import Joined, Left, PartialArrived, Planned, Started, UpdateArrived, UpdateRefused
from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberStatus
from fedcore.core.rounds.state import RoundState

POLICY = RoundPolicy(
    total_rounds=2, quorum=1.0, deadline_s=40.0, lease_s=30.0, min_devices=1, max_void_rounds=2, join_deadline_s=50.0
)


@pytest.fixture
def open_round() -> RoundState:
    state, _ = step(resume(POLICY), Started(now_s=0.0))
    for name in "abc":
        state, _ = step(state, Joined(device=name, epoch=1, now_s=0.0))
    state, _ = step(state, Planned(round=1, cohort=("a", "b", "c"), now_s=1.0))
    return state


def partial(*devices: str, round_index: int = 1, number: int = 1, now_s: float = 9.0) -> PartialArrived:
    times = tuple((device, 2.0) for device in devices)
    return PartialArrived(edge="north", number=number, round=round_index, device_times=times, now_s=now_s)


def test_a_partial_counts_all_its_leaves_at_once(open_round: RoundState) -> None:
    state, out = step(open_round, partial("a", "b"))
    assert out[0] == AcceptPartial(edge="north", number=1, round=1, devices=("a", "b"))
    assert [state.members[name].status for name in "abc"] == [MemberStatus.ACCEPTED, MemberStatus.ACCEPTED, None]


def test_a_leaf_s_time_is_its_parent_s_and_not_the_wait_for_its_siblings(open_round: RoundState) -> None:
    state, _ = step(open_round, partial("a"))
    assert state.members["a"].accepted_at_s == 3.0  # pushed at 1, two seconds at the edge, heard of at 9


def test_the_last_leaf_closes_the_round(open_round: RoundState) -> None:
    state, _ = step(open_round, UpdateArrived(device="c", round=1, now_s=5.0))
    _, out = step(state, partial("a", "b"))
    turns = [each for each in out if isinstance(each, Turn)]
    assert turns and turns[0].closed is not None and turns[0].closed.accepted == ("a", "b", "c")


def test_an_overlap_is_refused_whole_with_the_names(open_round: RoundState) -> None:
    state, _ = step(open_round, UpdateArrived(device="b", round=1, now_s=5.0))
    after, out = step(state, partial("a", "b"))
    assert out[0] == RefuseOverlap(edge="north", number=1, round=1, devices=("b",))
    assert after.members["a"].status is None
    _, out = step(after, partial("a", number=2))
    assert out[0] == AcceptPartial(edge="north", number=2, round=1, devices=("a",))


@pytest.mark.parametrize(
    "event", [partial("a", round_index=2), partial("a", round_index=0), partial("a", "unassigned")]
)
def test_what_no_open_round_asked_for_is_refused(open_round: RoundState, event: PartialArrived) -> None:
    after, out = step(open_round, event)
    assert out[0] == RefusePartial(edge="north", number=1, round=event.round)
    assert {each.status for each in after.members.values()} == {None}


def test_a_leaf_lost_in_silence_still_counts_when_its_edge_had_its_update(open_round: RoundState) -> None:
    state, _ = step(open_round, Left(device="a", epoch=1, now_s=2.0, lost=True))
    assert state.members["a"].status is MemberStatus.LOST
    _, out = step(state, partial("a"))
    assert isinstance(out[0], AcceptPartial)


def test_a_lease_that_ran_out_at_the_edge_is_over_here_too(open_round: RoundState) -> None:
    state, _ = step(open_round, Left(device="a", epoch=1, now_s=2.0, lost=True))
    assert "a" not in state.roster
    state, _ = step(open_round, Left(device="a", epoch=1, now_s=2.0))
    assert state.members["a"].status is None  # a closed stream alone loses no device


def test_a_leaf_that_failed_below_another_parent_counts_where_its_update_is(open_round: RoundState) -> None:
    state, _ = step(open_round, UpdateRefused(device="a", round=1, now_s=2.0))
    after, out = step(state, partial("a", "b"))
    assert out[0] == AcceptPartial(edge="north", number=1, round=1, devices=("a", "b"))
    assert after.members["a"].status is MemberStatus.ACCEPTED


def test_a_copy_after_the_close_names_who_was_counted_and_the_rest_is_late(open_round: RoundState) -> None:
    state, _ = step(open_round, partial("a"))
    state, _ = step(state, UpdateArrived(device="b", round=1, now_s=10.0))
    state, _ = step(state, UpdateRefused(device="c", round=1, now_s=11.0))
    assert state.closed is not None
    _, out = step(state, partial("a", "b", "c"))
    assert out[0] == RefuseOverlap(edge="north", number=1, round=1, devices=("a", "b"))
    _, out = step(state, partial("c", number=2))
    assert out[0] == RefusePartial(edge="north", number=2, round=1)
