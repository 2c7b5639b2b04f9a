"""Properties of a device's machine under any order of events.

A shell that knows nothing of the rules does what the machine asks for: it has one disk, one memory and one job, and
its job ends in any way at any time. Parents push, judge and close whatever they like, in any order.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.rounds.device.commands import (
    ClearSpool,
    Command,
    Commit,
    CommitSpooled,
    Deliver,
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
from fedcore.core.rounds.device.machine import step
from fedcore.core.rounds.device.state import AssignmentId, DeviceState, Stage

# Two assignments may share a round: a coordinator that was started again may plan it anew.
ASSIGNMENTS = [AssignmentId(key=key, round=number) for key, number in (("a", 1), ("b", 2), ("c", 2), ("d", 3))]
ROUND_OF = {assignment.key: assignment.round for assignment in ASSIGNMENTS}
KEYS = st.sampled_from("abcd")
ROUNDS = st.integers(-1, 4)
TIMES = st.floats(0.0, 40.0)
DEADLINES = st.sampled_from([0.0, 5.0])

FROM_OUTSIDE: st.SearchStrategy[Event] = st.one_of(
    st.builds(Welcomed, parent=st.integers(0, 3), now_s=TIMES),
    st.builds(SessionLost),
    st.builds(
        lambda assignment, parent, deadline_s, now_s: AssignmentPushed(
            key=assignment.key, round=assignment.round, parent=parent, deadline_s=deadline_s, now_s=now_s
        ),
        st.sampled_from(ASSIGNMENTS),
        st.integers(0, 3),
        DEADLINES,
        TIMES,
    ),
    st.builds(VerdictArrived, round=ROUNDS, accepted=st.booleans(), reason=st.just("late: no")),
    st.builds(RoundClosed, round=ROUNDS),
    st.builds(Tick, now_s=TIMES),
)
ENDINGS: st.SearchStrategy[Event] = st.one_of(
    st.builds(WorkFinished, key=KEYS),
    st.builds(WorkFailed, key=KEYS, message=st.just("no")),
    st.builds(TransferBroke, key=KEYS, message=st.just("broke")),
    st.builds(DeliveryRefused, key=KEYS, message=st.just("drop it")),
    st.builds(SpoolDamaged, key=KEYS),
    st.builds(Delivered, key=KEYS),
    st.builds(JobStopped, key=KEYS),
)


@dataclass
class Shell:
    """Obeys, and checks that the rules are kept; `disk` is the spool, `memory` a training result."""

    state: DeviceState = field(default_factory=DeviceState)
    disk: str | None = None
    memory: str | None = None
    running: StartWork | Deliver | None = None
    stopping: bool = False
    committed: list[str] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    pushed: dict[int, str] = field(default_factory=dict)  # by parent, the assignment it pushed last
    judged: set[int] = field(default_factory=set)  # rounds with a verdict since they were last trained

    def feed(self, event: Event) -> tuple[Command, ...]:
        """Feed one event and obey."""
        self._note(event)
        before = self.state
        self.state, out = step(before, event)
        assert step(before, event) == (self.state, out)
        for order in out:
            self._obey(order, event)
        self.check()
        return out

    def end_job(self, ending: type[Event]) -> tuple[Command, ...]:
        """Let the job end in this way, as far as such a job can."""
        assert self.running is not None
        job, self.running, self.stopping = self.running, None, False
        if ending is WorkFinished and isinstance(job, StartWork):
            self.disk = self.memory = job.key
            self.judged.discard(job.round)
            return self.feed(WorkFinished(key=job.key))
        if ending is Delivered and isinstance(job, Deliver):
            return self.feed(Delivered(key=job.key))
        if ending is SpoolDamaged and isinstance(job, Deliver):
            self.disk = None
            return self.feed(SpoolDamaged(key=job.key))
        if ending in (WorkFailed, TransferBroke, DeliveryRefused):
            return self.feed(ending(key=job.key, message="no"))  # type: ignore[call-arg]
        return self.feed(JobStopped(key=job.key))

    def _note(self, event: Event) -> None:
        if isinstance(event, AssignmentPushed):
            self.pushed[event.parent] = event.key
        if isinstance(event, VerdictArrived):
            self.judged.add(event.round)

    def _obey(self, order: Command, event: Event) -> None:
        match order:
            case StartWork():
                assert self.running is None, "never two jobs at once"
                assert self.disk is None, "what is spooled is sent or dropped before anything new is made"
                assert ROUND_OF[order.key] == order.round
                self.running = order
            case Deliver():
                assert self.running is None, "never two jobs at once"
                assert self.disk == order.key, "an update is spooled before it is sent"
                self.check_may_send(order.key)
                self.running = order
                self.delivered.append(order.key)
            case StopJob():
                assert self.running is not None and self.running.key == order.key and not self.stopping
                self.stopping = True
            case Commit() | CommitSpooled():
                self._commit(order, event)
            case RollBack():
                assert isinstance(event, VerdictArrived) and not event.accepted
                assert self.memory is not None and ROUND_OF[self.memory] == order.round == event.round
                self.memory = None
            case ClearSpool():
                self._check_cleared(event)
                self.disk = None
            case WakeAt():
                assert order.at_s == self.state.deadline_at_s

    def _commit(self, order: Commit | CommitSpooled, event: Event) -> None:
        assert isinstance(event, VerdictArrived) and event.accepted and event.round == order.round
        source = self.memory if isinstance(order, Commit) else self.disk
        assert source is not None and ROUND_OF[source] == order.round, "the word on another update"
        self.committed.append(source)
        if isinstance(order, Commit):
            self.memory = None

    def _check_cleared(self, event: Event) -> None:
        """A spooled update is dropped by a verdict against it, the close of its round, or another assignment."""
        if self.disk is None:
            return
        match event:
            case VerdictArrived():
                assert not event.accepted and event.round == ROUND_OF[self.disk]
            case RoundClosed():
                assert event.round >= ROUND_OF[self.disk]
            case _:
                job = self.state.job
                assert job is not None and job.stage is Stage.WORKING and job.answers.key != self.disk

    def check_may_send(self, key: str) -> None:
        """What is sent goes to the newest session's parent, which itself pushed this very assignment."""
        assert self.state.may_send
        assert self.state.parent > 0 and self.pushed.get(self.state.parent) == key

    def check(self) -> None:
        """Machine and shell agree on job, disk and memory."""
        state, job = self.state, self.state.job
        assert (job is None) == (self.running is None)
        if job is not None and self.running is not None:
            assert (job.answers.key, job.answers.round) == (self.running.key, self.running.round)
            assert (job.stage is Stage.STOPPING) == self.stopping
            assert job.stage is not Stage.DELIVERING or self.disk == job.answers.key
        assert state.next_assignment is None or (job is not None and job.stage is Stage.STOPPING)
        assert (None if state.spool is None else state.spool.key) == self.disk
        assert state.uncommitted_round == (None if self.memory is None else ROUND_OF[self.memory])
        assert state.uncommitted_round not in self.judged, "a result in memory never survives its verdict"
        if state.may_send and job is not None and job.stage is Stage.DELIVERING:
            self.check_may_send(job.answers.key)


def play(draw: st.DataObject, steps: int) -> Shell:
    """A device with any past."""
    spool = draw.draw(st.none() | st.sampled_from(ASSIGNMENTS), label="spooled by an earlier process")
    shell = Shell(state=DeviceState(spool=spool), disk=None if spool is None else spool.key)
    for _ in range(draw.draw(st.integers(0, steps), label="events")):
        if shell.running is not None and draw.draw(st.booleans()):
            ending = draw.draw(
                st.sampled_from(
                    [WorkFinished, Delivered, SpoolDamaged, WorkFailed, TransferBroke, DeliveryRefused, JobStopped]
                )
            )
            shell.end_job(ending)
        else:
            shell.feed(draw.draw(FROM_OUTSIDE))
    return shell


@given(st.data())
@settings(max_examples=400)
def test_the_rules_hold_under_any_order_of_events(data: st.DataObject) -> None:
    play(data, steps=25)


@given(st.data(), ENDINGS)
@settings(max_examples=150)
def test_the_end_of_a_job_that_does_not_run_changes_nothing(data: st.DataObject, stray: Event) -> None:
    shell = play(data, steps=12)
    if shell.running is None or shell.running.key != stray.key:  # type: ignore[union-attr]
        assert step(shell.state, stray) == (shell.state, ())


@given(st.data(), st.sampled_from(ASSIGNMENTS))
@settings(max_examples=300)
def test_no_past_keeps_an_accepted_update_from_being_committed(data: st.DataObject, assignment: AssignmentId) -> None:
    shell = play(data, steps=15)
    parent = shell.state.parent + 1
    shell.feed(Welcomed(parent=parent, now_s=99.0))
    shell.feed(AssignmentPushed(key=assignment.key, round=assignment.round, parent=parent, deadline_s=5.0, now_s=99.0))
    if shell.stopping:
        shell.end_job(JobStopped)
    made = isinstance(shell.running, StartWork)
    if made:
        shell.end_job(WorkFinished)
    assert isinstance(shell.running, Deliver) and shell.running.key == assignment.key
    shell.end_job(Delivered)
    before = len(shell.committed)
    shell.feed(VerdictArrived(round=assignment.round, accepted=True))
    assert shell.committed[before:] == [assignment.key]
    assert shell.state.uncommitted_round != assignment.round and shell.running is None
    shell.feed(RoundClosed(round=assignment.round))
    assert shell.disk is None


@given(st.data(), st.sampled_from(ASSIGNMENTS), st.integers(0, 100), st.sampled_from([-60.0, -0.5, 0.0, 0.5]))
@settings(max_examples=200)
def test_a_deadline_stops_a_job_of_a_connected_device_once_it_has_passed_since_the_last_push(
    data: st.DataObject, assignment: AssignmentId, pushed_at_s: int, late_s: float
) -> None:
    shell = play(data, steps=12)
    parent = shell.state.parent + 1
    shell.feed(Welcomed(parent=parent, now_s=0.0))
    shell.feed(
        AssignmentPushed(key=assignment.key, round=assignment.round, parent=parent, deadline_s=50.0, now_s=pushed_at_s)
    )
    active = shell.running is not None and not shell.stopping
    now_s = pushed_at_s + 50.0 + late_s
    connected = data.draw(st.booleans())
    if not connected:
        shell.feed(SessionLost())
    out = shell.feed(Tick(now_s=now_s))
    assert any(isinstance(order, StopJob) for order in out) == (active and connected and late_s >= 0.0)
    assert (WakeAt(at_s=pushed_at_s + 50.0) in out) == (shell.running is not None and late_s < 0.0)


@given(st.data())
@settings(max_examples=100)
def test_after_the_end_nothing_begins(data: st.DataObject) -> None:
    shell = play(data, steps=15)
    shell.feed(Stop())
    if shell.running is not None:
        shell.end_job(JobStopped)
    for event in data.draw(st.lists(FROM_OUTSIDE, max_size=8)):
        out = shell.feed(event)
        assert not any(isinstance(order, StartWork | Deliver | StopJob | WakeAt) for order in out)


@given(st.data())
@settings(max_examples=100)
def test_everything_said_is_one_line(data: st.DataObject) -> None:
    shell = play(data, steps=10)
    out = shell.feed(data.draw(FROM_OUTSIDE))
    assert all("\n" not in order.text and order.text for order in out if isinstance(order, Say))


@pytest.mark.parametrize("assignment", ASSIGNMENTS)
def test_an_undisturbed_round_is_delivered_once(assignment: AssignmentId) -> None:
    shell = Shell()
    shell.feed(Welcomed(parent=1, now_s=0.0))
    shell.feed(AssignmentPushed(key=assignment.key, round=assignment.round, parent=1, deadline_s=0.0, now_s=0.0))
    shell.end_job(WorkFinished)
    shell.end_job(Delivered)
    shell.feed(VerdictArrived(round=assignment.round, accepted=True))
    assert (shell.delivered, shell.committed, shell.memory) == ([assignment.key], [assignment.key], None)
