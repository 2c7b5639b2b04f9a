"""The rules of an edge's machine, one by one."""

from typing import get_args

from fedcore.core.rounds.tier.commands import (
    Acknowledge,
    AnswerChild,
    Command,
    Fold,
    Forget,
    MergePartial,
    Push,
    Send,
    SendAgain,
)
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
from fedcore.core.rounds.tier.machine import RULES, step
from fedcore.core.rounds.tier.state import Decision, PartialId, Stage, TierState

P1, P2, Q1 = PartialId(child="p", number=1), PartialId(child="p", number=2), PartialId(child="q", number=1)


def play(state: TierState, *happened: Event) -> tuple[TierState, list[Command]]:
    """The state after these events, and what the last one asked for."""
    out: tuple[Command, ...] = ()
    for event in happened:
        state, out = step(state, event)
    return state, list(out)


def shared(devices: str, index: int = 1, now_s: float = 0.0, deadline_at_s: float = 90.0) -> ShareArrived:
    return ShareArrived(round=index, devices=tuple(devices), deadline_at_s=deadline_at_s, now_s=now_s)


def arrived(device: str, index: int = 1, now_s: float = 1.0) -> UpdateArrived:
    return UpdateArrived(device=device, round=index, now_s=now_s)


def failed(device: str, index: int = 1) -> AssignmentFailed:
    return AssignmentFailed(device=device, round=index, now_s=1.0)


def gone(device: str) -> DeviceLeft:
    return DeviceLeft(device=device, now_s=1.0)


def part(part: PartialId, counted: str, failed: str = "", index: int = 1, now_s: float = 1.0) -> PartialArrived:
    return PartialArrived(
        child=part.child,
        number=part.number,
        round=index,
        counted=tuple(counted),
        failed=tuple(failed),
        now_s=now_s,
    )


def answered(number: int, decision: Decision, devices: str = "") -> SubmissionAnswered:
    return SubmissionAnswered(number=number, decision=decision, devices=tuple(devices), now_s=2.0)


def acknowledge(device: str, decision: Decision, index: int = 1) -> Acknowledge:
    return Acknowledge(device=device, round=index, decision=decision)


def answer(part: PartialId, decision: Decision, devices: str = "", index: int = 1) -> AnswerChild:
    return AnswerChild(part=part, round=index, decision=decision, devices=tuple(devices))


def send(number: int, devices: str, failed: str = "", parts: tuple[PartialId, ...] = (), index: int = 1) -> Send:
    return Send(number=number, round=index, devices=tuple(devices), failed=tuple(failed), parts=parts)


EMPTY = TierState()


def test_every_event_has_a_rule() -> None:
    assert RULES.keys() == set(get_args(Event))


# --- from assignment to acknowledgement ---


def test_a_share_is_pushed_down_and_a_repeated_name_only_once() -> None:
    _, out = play(EMPTY, shared("aba"))
    assert out == [Push(device="a", round=1), Push(device="b", round=1)]


def test_the_last_answer_sends_everything_and_the_word_above_goes_to_everybody() -> None:
    state, out = play(EMPTY, shared("abc"), arrived("b"))
    assert out == [Fold(device="b", round=1)]
    state, out = play(state, failed("c"))
    assert out == []
    state, out = play(state, arrived("a"))
    assert out == [Fold(device="a", round=1), send(1, "ab", "c")]
    _, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [acknowledge("a", Decision.ACCEPTED), acknowledge("b", Decision.ACCEPTED)]


def test_a_late_word_is_passed_down_as_it_is() -> None:
    state, out = play(EMPTY, shared("a"), arrived("a"), answered(1, Decision.LATE))
    assert out == [acknowledge("a", Decision.LATE)]
    assert play(state, arrived("a"))[1] == [acknowledge("a", Decision.LATE)]


def test_the_deadline_sends_what_is_held_then_one_submission_at_a_time_while_somebody_is_pending() -> None:
    state, _ = play(EMPTY, shared("abc"), arrived("a"))
    assert play(state, Tick(now_s=89.9))[1] == []
    state, out = play(state, Tick(now_s=90.0))
    assert out == [send(1, "a")]
    state, out = play(state, arrived("b", now_s=91.0))
    assert out == [Fold(device="b", round=1)]
    _, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [acknowledge("a", Decision.ACCEPTED), send(2, "b")]


def test_the_newest_share_sets_the_deadline() -> None:
    state, _ = play(EMPTY, shared("ab", deadline_at_s=50.0), arrived("a"), shared("c", deadline_at_s=70.0))
    assert play(state, Tick(now_s=60.0))[1] == []
    assert play(state, Tick(now_s=70.0))[1] == [send(1, "a")]


def test_nobody_waits_for_a_device_that_left_and_it_counts_when_it_is_back() -> None:
    state, out = play(EMPTY, shared("ab"), arrived("a"), gone("b"))
    assert out == [send(1, "a")]
    _, out = play(state, arrived("b"))
    assert out == [Fold(device="b", round=1), send(2, "b")]


def test_a_device_that_moved_in_goes_up_while_an_earlier_submission_is_kept_above() -> None:
    # The tier above waits for b and keeps submission 1 until then: with b behind the answer nothing would move.
    state, _ = play(EMPTY, shared("a"), arrived("a"), shared("b"))
    state, out = play(state, arrived("b"))
    assert out == [Fold(device="b", round=1), send(2, "b")]
    _, out = play(state, answered(2, Decision.ACCEPTED))
    assert out == [acknowledge("b", Decision.ACCEPTED)]


def test_what_nobody_asked_for_is_refused_and_what_came_twice_is_held_once() -> None:
    assert play(EMPTY, arrived("a"))[1] == [acknowledge("a", Decision.UNKNOWN)]
    state, _ = play(EMPTY, shared("ab", index=3))
    assert play(state, arrived("x", index=3))[1] == [acknowledge("x", Decision.UNKNOWN, index=3)]
    assert play(state, arrived("a", index=2))[1] == [acknowledge("a", Decision.LATE, index=2)]
    assert play(state, arrived("a", index=4))[1] == [acknowledge("a", Decision.UNKNOWN, index=4)]
    assert play(state, arrived("a", index=3), arrived("a", index=3))[1] == []


def test_a_copy_after_the_answer_gets_the_answer_again() -> None:
    _, out = play(EMPTY, shared("a"), arrived("a"), answered(1, Decision.ACCEPTED), arrived("a"))
    assert out == [acknowledge("a", Decision.ACCEPTED)]


def test_every_submission_without_an_answer_goes_again_after_a_reconnect() -> None:
    state, _ = play(EMPTY, shared("a"), arrived("a"), shared("b"), arrived("b"))
    assert play(state, UplinkRestored(now_s=3.0))[1] == [SendAgain(number=1), SendAgain(number=2)]
    state, _ = play(state, answered(1, Decision.ACCEPTED))
    assert play(state, UplinkRestored(now_s=3.0))[1] == [SendAgain(number=2)]
    assert play(state, answered(1, Decision.OVERLAP, "a"), answered(7, Decision.LATE))[1] == []


# --- shared again ---


def test_shared_again_an_update_that_is_here_is_not_asked_for_once_more() -> None:
    state, out = play(EMPTY, shared("ab"), arrived("a"), shared("a"))
    assert out == []
    assert state.devices["a"].stage is Stage.FOLDED


def test_a_tier_above_that_lost_everything_gets_everything_again() -> None:
    state, _ = play(EMPTY, shared("ab"), part(P1, "a"), failed("b"), answered(1, Decision.ACCEPTED))
    state, out = play(state, shared("ab"))
    assert out == [Push(device="a", round=1)]
    # The child's answer had been lost as well: its repeated part is not waved through.
    _, out = play(state, part(P1, "a"))
    assert out == [MergePartial(part=P1), send(2, "a", "b", parts=(P1,))]


def test_a_failure_under_way_is_not_reported_twice() -> None:
    assert play(EMPTY, shared("a"), failed("a"), shared("a"))[1] == []


# --- overlaps ---


def test_taken_apart_a_submission_goes_again_without_what_is_counted_elsewhere() -> None:
    state, _ = play(EMPTY, shared("abc"), arrived("a"), arrived("b"), failed("c"))
    _, out = play(state, answered(1, Decision.OVERLAP, "a"))
    assert out == [acknowledge("a", Decision.ACCEPTED), Fold(device="b", round=1), send(2, "b", "c")]


def test_a_child_s_part_goes_back_whole_and_what_it_holds_beside_is_waited_for() -> None:
    state, _ = play(EMPTY, shared("abcd"), part(P1, "ab"), part(Q1, "c"), arrived("d"))
    state, out = play(state, answered(1, Decision.OVERLAP, "a"))
    assert out == [
        answer(P1, Decision.OVERLAP, "a"),
        Push(device="b", round=1),  # to wherever it is by now
        Fold(device="d", round=1),
        MergePartial(part=Q1),
    ]
    _, out = play(state, part(P2, "b"))
    assert out == [MergePartial(part=P2), send(2, "bcd", parts=(P2, Q1))]


def test_nobody_waits_for_who_left_while_its_part_was_on_its_way() -> None:
    state, _ = play(EMPTY, shared("abd"), part(P1, "ab"), arrived("d"), gone("a"), gone("b"))
    state, out = play(state, answered(1, Decision.OVERLAP, "a"))
    assert out == [answer(P1, Decision.OVERLAP, "a"), Fold(device="d", round=1), send(2, "d")]
    assert state.devices["b"].stage is Stage.ABSENT


def test_who_left_and_was_shared_again_is_waited_for() -> None:
    state, _ = play(EMPTY, shared("ab"), part(P1, "ab"), gone("b"), shared("b"))
    state, out = play(state, answered(1, Decision.OVERLAP, "a"))
    assert out == [answer(P1, Decision.OVERLAP, "a"), Push(device="b", round=1)]
    assert state.devices["b"].stage is Stage.PENDING


def test_a_part_with_a_leaf_held_here_waits_for_the_word_on_that_leaf() -> None:
    state, out = play(EMPTY, shared("abc"), arrived("a"), part(P1, "ab"))
    assert out == []  # neither accepted nor refused: no tier above has a yet
    state, out = play(state, failed("c"))
    assert out == [send(1, "a", "c")]  # b is in the waiting part: the edge does not wait for it
    state, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [acknowledge("a", Decision.ACCEPTED), answer(P1, Decision.OVERLAP, "a")]
    _, out = play(state, part(P2, "b"))
    assert out == [MergePartial(part=P2), send(2, "b", parts=(P2,))]


def test_a_waiting_part_is_held_once_nothing_of_it_is_here_any_more() -> None:
    state, _ = play(EMPTY, shared("abc"), part(P1, "ac"), part(Q1, "ab"))
    assert set(state.claims) == {Q1}
    _, out = play(state, answered(1, Decision.OVERLAP, "c"))
    assert out == [
        answer(P1, Decision.OVERLAP, "c"),
        Push(device="a", round=1),
        MergePartial(part=Q1),
        send(2, "ab", parts=(Q1,)),
    ]


def test_a_refused_leaf_is_no_overlap() -> None:
    state, _ = play(EMPTY, shared("ab"), arrived("a"), gone("b"), answered(1, Decision.REJECTED))
    _, out = play(state, part(P1, "ab"))
    assert out == [MergePartial(part=P1), send(2, "ab", parts=(P1,))]


def test_a_verified_update_outweighs_a_failure_reported_before() -> None:
    state, out = play(EMPTY, shared("a"), failed("a"))
    assert out == [send(1, "", "a")]
    _, out = play(state, part(P1, "a"))
    assert out == [MergePartial(part=P1), send(2, "a", parts=(P1,))]


# --- parts ---


def test_a_repeated_part_gets_its_answer_again_and_none_before() -> None:
    state, _ = play(EMPTY, shared("a"), part(P1, "a"))
    assert play(state, part(P1, "a"))[1] == []
    state, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [answer(P1, Decision.ACCEPTED)]
    assert play(state, part(P1, "a"))[1] == [answer(P1, Decision.ACCEPTED)]


def test_a_part_in_which_nothing_counts_is_passed_on_and_answered() -> None:
    state, out = play(EMPTY, shared("a"), part(P1, "", "a"))
    assert out == [MergePartial(part=P1), send(1, "", "a", parts=(P1,))]
    state, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [answer(P1, Decision.ACCEPTED)]
    _, out = play(state, part(P2, "", "a"))
    assert out == [MergePartial(part=P2), send(2, "", parts=(P2,))]


def test_leaves_never_shared_here_are_passed_on_and_not_waited_for() -> None:
    # Their edge came from another parent and brought its submission; the root knows them.
    state, out = play(EMPTY, shared("a"), part(P1, "xy"), arrived("a"))
    assert out == [Fold(device="a", round=1), send(1, "axy", parts=(P1,))]
    _, out = play(state, answered(1, Decision.OVERLAP, "x"))
    assert out == [answer(P1, Decision.OVERLAP, "x"), Fold(device="a", round=1), send(2, "a")]


def test_a_part_of_a_later_round_waits_for_its_share_and_one_of_an_earlier_is_late() -> None:
    state, out = play(EMPTY, shared("a"), part(P1, "b", index=2))
    assert out == []
    assert play(state, part(Q1, "b", index=0))[1] == [answer(Q1, Decision.LATE, index=0)]
    state, out = play(state, shared("b", index=2))
    assert out == [
        Forget(round=1),
        Push(device="b", round=2),
        MergePartial(part=P1),
        send(1, "b", parts=(P1,), index=2),
    ]
    assert play(state, part(P2, "a", index=1))[1] == [answer(P2, Decision.LATE, index=1)]


def test_a_device_that_offered_a_copy_of_what_came_in_a_part_is_told_as_well() -> None:
    state, _ = play(EMPTY, shared("a"), part(P1, "a"), arrived("a"))
    _, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == [acknowledge("a", Decision.ACCEPTED), answer(P1, Decision.ACCEPTED)]


# --- ends ---


def test_a_later_share_ends_the_round_and_its_flight_with_it_but_numbers_go_on() -> None:
    state, _ = play(EMPTY, shared("ab"), arrived("a"), gone("b"))
    state, out = play(state, shared("a", index=2))
    assert out == [Forget(round=1), Push(device="a", round=2)]
    state, out = play(state, answered(1, Decision.ACCEPTED))
    assert out == []  # the decision on a round that is over
    _, out = play(state, arrived("a", index=2))
    assert out == [Fold(device="a", round=2), send(2, "a", index=2)]


def test_a_closed_round_is_forgotten_but_for_who_was_counted() -> None:
    state, _ = play(EMPTY, shared("abc"), part(P1, "b"), arrived("a"), gone("c"), answered(1, Decision.ACCEPTED))
    state, out = play(state, RoundClosed(round=1, now_s=3.0))
    assert out == [Forget(round=1)]
    assert play(state, arrived("a"))[1] == [acknowledge("a", Decision.ACCEPTED)]
    assert play(state, arrived("c"))[1] == [acknowledge("c", Decision.LATE)]
    assert play(state, part(P1, "b"))[1] == [answer(P1, Decision.OVERLAP, "b")]
    assert play(state, part(P2, "c"))[1] == [answer(P2, Decision.LATE)]
    assert play(state, shared("c"), UplinkRestored(now_s=4.0))[1] == []


def test_a_close_of_a_round_never_heard_of_is_believed_and_an_older_one_is_not_news() -> None:
    state, out = play(EMPTY, part(P1, "a", index=4), RoundClosed(round=5, now_s=1.0))
    assert out == [Forget(round=5)] and not state.claims
    assert play(state, shared("a", index=5))[1] == []
    assert play(state, shared("a", index=6), RoundClosed(round=5, now_s=2.0))[1] == []


def test_a_flight_out_at_the_close_is_not_sent_again() -> None:
    state, _ = play(EMPTY, shared("a"), arrived("a"), RoundClosed(round=1, now_s=2.0))
    assert play(state, UplinkRestored(now_s=3.0))[1] == []


def test_an_update_without_an_answer_is_told_from_one_with() -> None:
    state, _ = play(EMPTY, shared("ab"))
    assert not state.holds("a")
    state, _ = play(state, arrived("a"), gone("b"))
    assert state.holds("a") and not state.holds("b") and not state.holds("x")
    state, _ = play(state, answered(1, Decision.ACCEPTED))
    assert not state.holds("a")


def test_a_thousand_devices_go_up_in_one_submission() -> None:
    names = tuple(f"device-{index:04d}" for index in range(1000))
    state, _ = play(EMPTY, ShareArrived(round=1, devices=names, deadline_at_s=90.0, now_s=0.0))
    for name in names:
        state, out = step(state, arrived(name))
    assert out[-1] == Send(number=1, round=1, devices=names, failed=(), parts=())
    _, out = step(state, answered(1, Decision.ACCEPTED))
    assert len(out) == 1000
