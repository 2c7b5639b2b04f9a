"""What becomes of children's partials: claimed, merged, answered, and taken apart device by device."""

from dataclasses import replace

from fedcore.core.rounds.tier.commands import Acknowledge, AnswerChild, Fold, MergePartial, Push
from fedcore.core.rounds.tier.events import PartialArrived
from fedcore.core.rounds.tier.partials import (
    acknowledgements,
    move,
    partial_arrived,
    review,
    settle,
    take_apart,
    with_answers,
    with_stage,
)
from fedcore.core.rounds.tier.state import Claim, Decision, PartialId, RelayedDevice, Stage, Submission, TierState

P, Q = PartialId(child="p", number=1), PartialId(child="q", number=1)
PENDING = RelayedDevice(stage=Stage.PENDING)


def state(**devices: RelayedDevice) -> TierState:
    return TierState(round=2, devices=devices)


def arrives(counted: str, failed: str = "", *, part: PartialId = P, index: int = 2) -> PartialArrived:
    return PartialArrived(
        child=part.child, number=part.number, round=index, counted=tuple(counted), failed=tuple(failed), now_s=1.0
    )


def answer(part: PartialId, decision: Decision, devices: str = "") -> AnswerChild:
    return AnswerChild(part=part, round=2, decision=decision, devices=tuple(devices))


def test_a_partial_is_claimed_before_it_is_decided_on() -> None:
    before = state(a=PENDING)
    after, out = partial_arrived(before, arrives("a", "b"))
    assert out == () and after.claims == {P: Claim(round=2, counted=("a",), failed=("b",))}
    assert after.devices == before.devices and partial_arrived(after, arrives("a")) == (after, ())
    after, out = review(after)
    assert out == (MergePartial(part=P),)
    assert after.claims == {} and after.parts == {P: ("a",)}
    assert after.devices == {
        "a": RelayedDevice(stage=Stage.FOLDED, part=P),
        "b": RelayedDevice(stage=Stage.FAILED),
    }


def test_one_of_an_earlier_round_is_late_and_one_of_a_later_is_kept() -> None:
    assert partial_arrived(state(), arrives("a", index=1))[1] == (replace(answer(P, Decision.LATE), round=1),)
    after, out = partial_arrived(state(), arrives("a", index=3))
    assert out == () and review(after) == (after, ()), "its round has not begun here"


def test_an_answer_is_given_again_as_it_was() -> None:
    given = with_answers(state(), [answer(P, Decision.OVERLAP, "ab")])
    assert partial_arrived(given, arrives("a"))[1] == (answer(P, Decision.OVERLAP, "ab"),)


def test_claims_are_decided_in_the_order_they_came() -> None:
    """Merging the first makes the second wait for the decision on it."""
    held, _ = partial_arrived(state(a=PENDING), arrives("a"))
    held, _ = partial_arrived(held, arrives("a", part=Q))
    after, out = review(held)
    assert out == (MergePartial(part=P),) and set(after.claims) == {Q}
    after = replace(with_stage(after, ["a"], Stage.COUNTED), parts={})
    assert review(after)[1] == (answer(Q, Decision.OVERLAP, "a"),)


def test_in_a_round_that_is_over_nothing_is_merged_any_more() -> None:
    over = replace(
        state(a=RelayedDevice(stage=Stage.COUNTED)), over=True, claims={P: Claim(round=2, counted=("b",), failed=())}
    )
    assert review(over)[1] == (answer(P, Decision.LATE),)
    counted = replace(over, claims={P: Claim(round=2, counted=("a", "b"), failed=())})
    assert review(counted)[1] == (answer(P, Decision.OVERLAP, "a"),)


def test_a_device_that_was_never_shared_or_has_left_is_nobodys_to_wait_for() -> None:
    known = state(a=PENDING, b=RelayedDevice(stage=Stage.ABSENT), c=RelayedDevice(stage=Stage.REFUSED))
    after, _ = review(partial_arrived(known, arrives("abcx"))[0])
    assert [after.devices[name].absent for name in "abcx"] == [False, True, False, True]


# --- answers from above ---


FLOWN = TierState(
    round=2,
    devices={
        "a": RelayedDevice(stage=Stage.SENT),
        "b": RelayedDevice(stage=Stage.SENT, part=P),
        "c": RelayedDevice(stage=Stage.SENT, part=P, offered_copy=True),
        "d": RelayedDevice(stage=Stage.SENT, part=P, absent=True),
        "e": RelayedDevice(stage=Stage.SENT, part=Q),
    },
    parts={P: ("b", "c", "d"), Q: ("e",)},
    reported_failures=frozenset("fg"),
)
SUBMISSION = Submission(number=1, devices=tuple("abcde"), failed=("f",), parts=(P, Q))


def acknowledge(device: str, decision: Decision) -> Acknowledge:
    return Acknowledge(device=device, round=2, decision=decision)


def test_a_decision_goes_to_devices_that_sent_here_and_to_children() -> None:
    for decision, stage in ((Decision.ACCEPTED, Stage.COUNTED), (Decision.LATE, Stage.REFUSED)):
        after, out = settle(FLOWN, SUBMISSION, decision)
        assert out == (acknowledge("a", decision), acknowledge("c", decision), answer(P, decision), answer(Q, decision))
        assert after.devices == dict.fromkeys("abcde", RelayedDevice(stage=stage))
        assert after.parts == {} and after.answers == {P: (decision, ()), Q: (decision, ())}


def test_taken_apart_what_counts_is_acknowledged_and_the_rest_goes_where_it_can_be_sent_again() -> None:
    after, out = take_apart(FLOWN, SUBMISSION, frozenset("c"))
    assert out == (
        acknowledge("c", Decision.ACCEPTED),
        answer(P, Decision.OVERLAP, "c"),
        Push(device="b", round=2),  # d has left: it is the child's to bring
        Fold(device="a", round=2),
        MergePartial(part=Q),
    )
    assert {name: known.stage for name, known in after.devices.items()} == {
        "a": Stage.FOLDED,
        "b": Stage.PENDING,
        "c": Stage.COUNTED,
        "d": Stage.ABSENT,
        "e": Stage.FOLDED,
    }
    assert after.devices["e"].part == Q and after.parts == {Q: ("e",)}
    assert after.reported_failures == {"g"}, "a failure goes up again with the next submission"


def test_moving_keeps_where_an_update_came_from_and_a_stage_without_one_does_not() -> None:
    assert move(FLOWN, ["d"], Stage.FOLDED).devices["d"] == replace(FLOWN.devices["d"], stage=Stage.FOLDED)
    assert with_stage(FLOWN, ["d"], Stage.PENDING).devices["d"] == PENDING
    assert acknowledgements(FLOWN, "ebca", Decision.LATE) == (
        acknowledge("c", Decision.LATE),
        acknowledge("a", Decision.LATE),
    )
