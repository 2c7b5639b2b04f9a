"""The rules of a device's machine, one by one."""

import math

import pytest

from fedcore.core.rounds.device.commands import (
    ClearSpool,
    Command,
    Commit,
    CommitSpooled,
    Deliver,
    ReportFailure,
    RollBack,
    Say,
    StartWork,
    StopJob,
    WakeAt,
)
from fedcore.core.rounds.device.events import (
    AssignmentPushed,
    Delivered,
    DeliveryRefused,
    Ending,
    Event,
    JobStopped,
    RoundClosed,
    SessionLost,
    SpoolDamaged,
    Stop,
    Tick,
    TransferBroke,
    VerdictArrived,
    Welcomed,
    WorkFailed,
    WorkFinished,
)
from fedcore.core.rounds.device.machine import PUSH_WAIT_S, step
from fedcore.core.rounds.device.state import AssignmentId, DeviceState, Job, Stage

A1, B1, C2 = (AssignmentId(key=key, round=number) for key, number in (("a", 1), ("b", 1), ("c", 2)))
WORKING, DELIVERING, STOPPING = Stage.WORKING, Stage.DELIVERING, Stage.STOPPING


def play(state: DeviceState, *happened: Event) -> tuple[DeviceState, list[Command]]:
    """The state after these events, and what the last one asked for."""
    out: tuple[Command, ...] = ()
    for event in happened:
        state, out = step(state, event)
    return state, list(out)


def pushed(assignment: AssignmentId = A1, parent: int = 1, deadline_s: float = 0.0, now_s: float = 0.0) -> Event:
    return AssignmentPushed(
        key=assignment.key, round=assignment.round, parent=parent, deadline_s=deadline_s, now_s=now_s
    )


def texts(out: list[Command]) -> list[str]:
    return [order.text for order in out if isinstance(order, Say)]


def without_words(out: list[Command]) -> list[Command]:
    return [order for order in out if not isinstance(order, Say)]


JOINED = (Welcomed(parent=1, now_s=0.0),)
FINISHED, DELIVERED = WorkFinished(key="a"), Delivered(key="a")
ACCEPTED = VerdictArrived(round=1, accepted=True)
REFUSED = VerdictArrived(round=1, accepted=False, reason="late: round 1 had closed")


def test_an_assignment_is_worked_on_spooled_delivered_and_committed() -> None:
    state, out = play(DeviceState(), *JOINED, pushed())
    assert out == [ClearSpool(), StartWork(key="a", round=1)]
    assert state.job == Job(answers=A1, stage=WORKING) and state.spool is None
    state, out = play(state, FINISHED)
    assert out == [Deliver(key="a", round=1)]
    assert state.job == Job(answers=A1, stage=DELIVERING) and state.spool == A1 and state.uncommitted_round == 1
    state, out = play(state, DELIVERED)
    assert (state.job, state.spool, out) == (None, A1, [])
    state, out = play(state, ACCEPTED)
    assert out == [Commit(round=1)]
    assert state.spool == A1 and state.uncommitted_round is None, "the update is kept until its round closes"
    state, out = play(state, RoundClosed(round=1))
    assert out == [ClearSpool()] and state.spool is None


def test_an_assignment_pushed_again_while_under_way_is_worked_on_once() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed())
    assert out == [] and state.job == Job(answers=A1, stage=WORKING, pushed_again=True, repushed=True)
    state, out = play(state, FINISHED)
    assert out == [Deliver(key="a", round=1)] and state.job is not None and state.job.repushed


def test_an_assignment_pushed_again_after_delivery_sends_the_spooled_update() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, pushed())
    assert out == [Deliver(key="a", round=1)]
    assert state.job == Job(answers=A1, stage=DELIVERING, repushed=True)


def test_an_update_of_an_earlier_process_is_sent_and_commits_its_keep_set() -> None:
    state, out = play(DeviceState(spool=A1), *JOINED, pushed())
    assert out == [Deliver(key="a", round=1)]
    assert play(state, DELIVERED, ACCEPTED)[1] == [CommitSpooled(round=1)]


def test_a_verdict_on_an_earlier_processes_update_counts_before_anything_is_pushed() -> None:
    assert play(DeviceState(spool=A1), *JOINED, ACCEPTED)[1] == [CommitSpooled(round=1)]
    state, out = play(DeviceState(spool=A1), *JOINED, REFUSED)
    assert without_words(out) == [ClearSpool()] and state.spool is None


def test_another_assignment_begins_once_the_job_under_way_has_stopped() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed(C2))
    assert out == [StopJob(key="a")] and state.job == Job(answers=A1, stage=STOPPING)
    state, out = play(state, JobStopped(key="a"))
    assert out == [ClearSpool(), StartWork(key="c", round=2)] and state.job == Job(answers=C2, stage=WORKING)


def test_of_several_assignments_pushed_while_a_job_stops_the_last_one_begins() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed(C2), pushed(B1))
    assert out == [], "it stops already"
    assert play(state, JobStopped(key="a"))[1] == [ClearSpool(), StartWork(key="b", round=1)]


def test_the_assignment_whose_job_is_stopping_begins_anew_when_it_is_pushed_last() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(), pushed(C2), pushed())
    assert play(state, JobStopped(key="a"))[1] == [ClearSpool(), StartWork(key="a", round=1)]
    assert play(state, FINISHED)[1] == [Deliver(key="a", round=1)], "it had ended before it could be stopped"


@pytest.mark.parametrize(
    "ending", [FINISHED, WorkFailed(key="a", message="no"), TransferBroke(key="a", message="broke"), DELIVERED]
)
def test_however_a_stopping_job_ends_the_next_one_begins(ending: Ending) -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed(C2), ending)
    assert out == [ClearSpool(), StartWork(key="c", round=2)] and state.spool is None


def test_a_newer_assignment_drops_the_spooled_update_of_another() -> None:
    state, out = play(DeviceState(spool=A1), *JOINED, pushed(C2))
    assert out == [ClearSpool(), StartWork(key="c", round=2)] and state.spool is None


# --- streams and parents ---


def test_an_update_waits_for_a_new_parent_to_push_its_assignment() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), Welcomed(parent=2, now_s=0.0), FINISHED)
    assert state.job is None and state.spool == A1
    assert out == [
        Say(
            text="round 1: the parent has changed, and the new one has yet to push this work; the update is kept and "
            "sent once the work is pushed again"
        )
    ]
    assert play(state, pushed(parent=2))[1] == [Deliver(key="a", round=1)]


def test_a_parent_that_pushed_before_the_update_was_ready_gets_it() -> None:
    _, out = play(DeviceState(), *JOINED, pushed(), Welcomed(parent=2, now_s=0.0), pushed(parent=2), FINISHED)
    assert out == [Deliver(key="a", round=1)]


def test_transfers_may_begin_only_for_the_newest_sessions_parent_once_it_has_pushed() -> None:
    assert not DeviceState().may_send and not play(DeviceState(), *JOINED)[0].may_send
    state, _ = play(DeviceState(), *JOINED, pushed())
    assert state.may_send
    state, _ = play(state, Welcomed(parent=2, now_s=0.0))
    assert not state.may_send
    assert not play(state, pushed(parent=1))[0].may_send and play(state, pushed(parent=2))[0].may_send
    assert not play(DeviceState(), pushed(parent=0))[0].may_send, "no session at all"


def test_a_broken_transfer_waits_for_the_next_push() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), TransferBroke(key="a", message="the link broke"))
    assert state.job is None
    assert out == [Say(text="round 1: the link broke; the update is kept and sent once the work is pushed again")]
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, TransferBroke(key="a", message="the link broke"))
    assert state.job is None and state.spool == A1 and without_words(out) == []


def test_a_broken_transfer_is_repeated_at_once_where_the_assignment_was_pushed_again_meanwhile() -> None:
    newer = (Welcomed(parent=2, now_s=0.0), pushed(parent=2))
    broke = TransferBroke(key="a", message="the link broke")
    state, out = play(DeviceState(), *JOINED, pushed(), *newer, broke)
    assert without_words(out) == [ClearSpool(), StartWork(key="a", round=1)]
    assert state.job == Job(answers=A1, stage=WORKING), "it begins under the new parent"
    assert without_words(play(state, broke)[1]) == [], "and is repeated once for every push"
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, *newer, broke)
    assert without_words(out) == [Deliver(key="a", round=1)]
    assert state.job == Job(answers=A1, stage=DELIVERING, repushed=True)


def test_a_refused_delivery_is_no_failure() -> None:
    refused = DeliveryRefused(key="a", message="device has no open assignment of round 1; drop the update")
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, refused)
    assert state.job is None and out == [Say(text="device has no open assignment of round 1; drop the update")]


def test_a_failure_is_told_to_person_and_parent() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), WorkFailed(key="a", message="no memory"))
    assert state.job is None
    assert out == [Say(text="round 1 failed: no memory"), ReportFailure(round=1, message="no memory")]


def test_a_damaged_spool_is_made_again() -> None:
    state, out = play(DeviceState(spool=A1), *JOINED, pushed(), SpoolDamaged(key="a"))
    assert out == [ClearSpool(), StartWork(key="a", round=1)]
    assert state.spool is None and state.job == Job(answers=A1, stage=WORKING)


# --- verdicts and closes ---


def test_a_refused_update_is_rolled_back_and_dropped() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, REFUSED)
    assert out == [Say(text="round 1: update late: round 1 had closed"), RollBack(round=1), ClearSpool()]
    assert state.spool is None and state.uncommitted_round is None
    assert play(state, ACCEPTED)[1] == [], "a second verdict finds nothing to commit"


def test_a_second_accepted_verdict_commits_no_training_state_again() -> None:
    _, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, ACCEPTED, ACCEPTED)
    assert out == [CommitSpooled(round=1)], "the same keep-set as before"


@pytest.mark.parametrize("verdict", [ACCEPTED, REFUSED])
def test_a_verdict_on_an_earlier_round_leaves_a_later_update_alone(verdict: VerdictArrived) -> None:
    later, _ = play(DeviceState(), *JOINED, pushed(C2), WorkFinished(key="c"), Delivered(key="c"))
    state, out = play(later, verdict)
    assert state == later and without_words(out) == []


def test_an_accepted_verdict_counts_while_the_next_assignment_is_worked_on() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, pushed(C2), ACCEPTED)
    assert out == [Commit(round=1)] and state.job == Job(answers=C2, stage=WORKING)


def test_a_verdict_after_the_close_still_commits() -> None:
    _, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, RoundClosed(round=1), ACCEPTED)
    assert out == [Commit(round=1)]


def test_a_refusal_stops_a_second_delivery_of_the_same_update() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, DELIVERED, pushed(), REFUSED)
    assert without_words(out) == [RollBack(round=1), StopJob(key="a"), ClearSpool()]
    assert state.job == Job(answers=A1, stage=STOPPING, repushed=True) and state.spool is None


def test_a_close_of_an_earlier_round_changes_nothing() -> None:
    before, _ = play(DeviceState(), *JOINED, pushed(C2), WorkFinished(key="c"))
    assert step(before, RoundClosed(round=1)) == (before, ())


def test_the_close_of_its_round_stops_work() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), RoundClosed(round=1))
    assert out == [
        Say(text="round 1 has closed: its update can no longer count, so work on it stops"),
        StopJob(key="a"),
    ]
    assert play(state, JobStopped(key="a"))[0].job is None


def test_the_close_of_its_round_stops_a_delivery_and_drops_the_update() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), FINISHED, RoundClosed(round=3))
    assert out == [
        Say(text="round 1 has closed: its update can no longer count, so it is not sent"),
        StopJob(key="a"),
        ClearSpool(),
    ]
    assert state.spool is None


def test_the_close_of_a_round_forgets_an_assignment_that_waits() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(), pushed(B1), RoundClosed(round=1))
    assert play(state, JobStopped(key="a"))[1] == []
    state, _ = play(DeviceState(), *JOINED, pushed(), pushed(C2), RoundClosed(round=1))
    assert play(state, JobStopped(key="a"))[1] == [ClearSpool(), StartWork(key="c", round=2)]


def test_an_assignment_of_a_round_that_closed_is_worked_on_when_it_is_pushed() -> None:
    assert play(DeviceState(), *JOINED, RoundClosed(round=9), pushed())[1][-1] == StartWork(key="a", round=1)


# --- the deadline ---


def test_a_push_sets_the_deadline_from_its_receipt() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(deadline_s=10.0, now_s=5.0))
    assert out[-1] == WakeAt(at_s=15.0) and state.deadline_at_s == 15.0
    state, out = play(state, pushed(deadline_s=10.0, now_s=9.0))
    assert out == [WakeAt(at_s=19.0)], "pushed again, it may be a new attempt at the round"


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, math.inf, math.nan])
def test_without_a_deadline_nothing_wakes(deadline_s: float) -> None:
    state, out = play(DeviceState(), *JOINED, pushed(deadline_s=deadline_s))
    assert out == [ClearSpool(), StartWork(key="a", round=1)] and state.deadline_at_s == math.inf
    assert play(state, Tick(now_s=1e12))[1] == []


def test_work_stops_once_the_deadline_has_passed_in_full() -> None:
    begun, _ = play(DeviceState(), *JOINED, pushed(deadline_s=10.0, now_s=5.0))
    state, out = play(begun, Tick(now_s=math.nextafter(15.0, 0.0)))
    assert out == [WakeAt(at_s=15.0)] and state == begun
    state, out = play(begun, Tick(now_s=15.0))
    assert out == [
        Say(text="round 1 has passed its deadline: its update can no longer count, so work on it stops"),
        StopJob(key="a"),
    ]
    assert play(state, JobStopped(key="a"))[1] == []


def test_a_delivery_stops_at_the_deadline_and_its_update_is_kept() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(deadline_s=10.0), FINISHED, Tick(now_s=10.0))
    assert out == [
        Say(text="round 1 has passed its deadline: its update can no longer count, so it is not sent"),
        StopJob(key="a"),
    ]
    state, out = play(state, JobStopped(key="a"))
    assert state.spool == A1 and state.uncommitted_round == 1 and out == []
    assert play(state, pushed(now_s=20.0))[1] == [Deliver(key="a", round=1)], "a round that was opened anew"
    assert play(state, ACCEPTED)[1] == [Commit(round=1)], "what had left before may count"


def test_a_passed_deadline_is_forgotten_with_the_next_push() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(deadline_s=10.0), Tick(now_s=10.0), JobStopped(key="a"))
    state, out = play(state, pushed(deadline_s=10.0, now_s=11.0))
    assert out == [ClearSpool(), StartWork(key="a", round=1), WakeAt(at_s=21.0)]


def test_an_assignment_that_waits_longer_than_its_deadline_does_not_begin() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed(C2, deadline_s=10.0))
    assert out == [StopJob(key="a"), WakeAt(at_s=10.0)]
    assert play(state, Tick(now_s=10.0), JobStopped(key="a"))[1] == []


def test_without_a_session_work_goes_on_past_the_deadline() -> None:
    begun, _ = play(DeviceState(), *JOINED, pushed(deadline_s=10.0), SessionLost())
    assert play(begun, Tick(now_s=10.0)) == (begun, []), "the coordinator may be started again, and open the round anew"
    state, out = play(begun, Tick(now_s=10.0), Welcomed(parent=2, now_s=50.0))
    assert out == [WakeAt(at_s=50.0 + PUSH_WAIT_S)]
    state, out = play(state, pushed(parent=2, deadline_s=10.0, now_s=50.5))
    assert out == [WakeAt(at_s=60.5)] and state.job == Job(answers=A1, stage=WORKING, pushed_again=True, repushed=True)


def test_work_that_no_parent_pushes_again_after_a_reconnect_stops() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(deadline_s=10.0), SessionLost(), Welcomed(parent=2, now_s=50.0))
    assert play(state, Tick(now_s=79.0))[1] == [WakeAt(at_s=80.0)]
    assert play(state, Tick(now_s=80.0))[1][-1] == StopJob(key="a")


def test_a_reconnect_long_before_the_deadline_leaves_it_alone() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(deadline_s=100.0), SessionLost())
    assert play(state, Welcomed(parent=2, now_s=5.0))[1] == [WakeAt(at_s=100.0)]


def test_a_reconnect_brings_no_deadline_where_there_is_none() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(), SessionLost())
    assert play(state, Welcomed(parent=2, now_s=5.0))[1] == []


def test_a_tick_without_a_job_asks_for_nothing() -> None:
    state, _ = play(DeviceState(), *JOINED, pushed(deadline_s=10.0), FINISHED, DELIVERED)
    assert play(state, Tick(now_s=1.0))[1] == [] and play(state, Tick(now_s=99.0)) == (state, [])


# --- the end ---


def test_the_end_stops_the_job_and_begins_nothing_any_more() -> None:
    state, out = play(DeviceState(), *JOINED, pushed(), pushed(C2), Stop())
    assert out == [] and play(state, JobStopped(key="a"))[1] == []
    state, out = play(DeviceState(), *JOINED, pushed(), Stop())
    assert out == [StopJob(key="a")]
    state, _ = play(state, JobStopped(key="a"))
    assert play(state, pushed(C2)) == (state, [])
    assert play(DeviceState(), Stop())[1] == []
