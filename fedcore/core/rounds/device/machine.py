"""The machine of a device, without I/O: `step(state, event) -> (state, commands)`.

    no job --pushed--> WORKING --WorkFinished--> DELIVERING --Delivered--> no job      any --StopJob--> STOPPING
       '-----pushed, its update is spooled--------->'

Theory of operation. A device answers the assignment that was pushed last, with one job at a time. The job first makes
the update and spools it, then delivers it; the job is over when the submission is on its way. What training left
(keep-set, optimiser state) stays in memory until the verdict: ACCEPTED commits it, any other verdict rolls it back.
The spooled update outlives the job and the process. It is sent again, byte for byte, whenever its assignment is pushed
again, until a verdict against it, the close of its round, or another assignment ends its use. Streams break and parents
change meanwhile. Therefore the machine never waits for an answer: a parent that still wants the update pushes again.
Rules:

- An assignment that is pushed again while a job answers it changes nothing, except that a broken attempt is followed by
  another one at once. Any other assignment stops the job and begins once the job has ended.
- A transfer goes to the parent of the newest session, and only if that parent pushed the assignment: another one may
  not know it yet, and would refuse the update for good.
- A verdict concerns its round alone. One that comes after a later update was spooled leaves that update alone. An
  update that an earlier process spooled commits its keep-set; its training state died with that process.
- `deadline_s` counts from the last push, on the device's clock. The coordinator counts the same duration from an
  earlier moment, the opening of the round, so the device stops only after no update can count. It then stops its job
  but keeps a spooled update. A coordinator that was started again may have opened the round anew: without a session a
  device works on, and after a welcome it gives the parent PUSH_WAIT_S to push the assignment again.
- The close of a round stops a job for it too. Nothing is refused because of a close or a deadline in the past: what a
  parent pushes, it wants.
"""

import math
from dataclasses import replace

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
from fedcore.core.rounds.device.state import AssignmentId, DeviceState, Job, Stage

Step = tuple[DeviceState, tuple[Command, ...]]

PUSH_WAIT_S = 30.0  # a parent pushes what it still wants at once; this is a lease, as configured by default

_KEPT = "the update is kept and sent once the work is pushed again"


def step(state: DeviceState, event: Event) -> Step:
    """Return the state after `event` and what the shell has to do, in order. Never raises, whatever the order."""
    match event:
        case Welcomed():
            return _welcomed(state, event)
        case SessionLost():
            return replace(state, connected=False), ()
        case AssignmentPushed():
            return _assignment_pushed(state, event)
        case VerdictArrived():
            return _verdict_arrived(state, event)
        case RoundClosed():
            return _round_closed(state, event)
        case Tick():
            return _time_passed(state, event)
        case Stop():
            return _stop_job(replace(state, shut_down=True, next_assignment=None))
        case _:
            return _job_ended(state, event)


# --- the job ---


def _assignment_pushed(state: DeviceState, event: AssignmentPushed) -> Step:
    if state.shut_down:
        return state, ()
    deadline_at_s = event.now_s + event.deadline_s if event.deadline_s > 0 else math.inf
    state = replace(state, pushed_by=event.parent, deadline_at_s=deadline_at_s)
    assignment, job = AssignmentId(key=event.key, round=event.round), state.job
    if job is None:
        state, orders = _begin(state, assignment)
    elif job.stage is not Stage.STOPPING and job.answers == assignment:
        state, orders = replace(state, job=replace(job, pushed_again=True, repushed=True)), ()
    else:
        state, orders = _stop_job(replace(state, next_assignment=assignment))
    return state, (*orders, *_wake(state))


def _welcomed(state: DeviceState, event: Welcomed) -> Step:
    deadline_at_s = max(state.deadline_at_s, event.now_s + PUSH_WAIT_S)
    state = replace(state, parent=event.parent, connected=True, deadline_at_s=deadline_at_s)
    return state, _wake(state)


def _begin(state: DeviceState, assignment: AssignmentId) -> Step:
    if state.spool == assignment:
        return _deliver(state, Job(answers=assignment, stage=Stage.DELIVERING, repushed=True))
    job = Job(answers=assignment, stage=Stage.WORKING)
    # Whatever lies in the spool answers another assignment, or is damaged.
    return replace(state, job=job, spool=None), (ClearSpool(), StartWork(key=assignment.key, round=assignment.round))


def _deliver(state: DeviceState, job: Job) -> Step:
    assignment = job.answers
    if state.may_send:
        return replace(state, job=job), (Deliver(key=assignment.key, round=assignment.round),)
    text = f"round {assignment.round}: the parent has changed, and the new one has yet to push this work; {_KEPT}"
    return replace(state, job=None), (Say(text=text),)


def _stop_job(state: DeviceState, reason: str = "") -> Step:
    """Stop the job where there is one that does not stop already; with a `reason`, say why its update cannot count."""
    job = state.job
    if job is None or job.stage is Stage.STOPPING:
        return state, ()
    what = "work on it stops" if job.stage is Stage.WORKING else "it is not sent"
    text = f"round {job.answers.round} {reason}: its update can no longer count, so {what}"
    words = (Say(text=text),) if reason else ()
    return replace(state, job=replace(job, stage=Stage.STOPPING)), (*words, StopJob(key=job.answers.key))


def _job_ended(state: DeviceState, event: Ending) -> Step:
    job = state.job
    if job is None or job.answers.key != event.key:
        return state, ()
    if isinstance(event, WorkFinished):
        state = replace(state, spool=job.answers, uncommitted_round=job.answers.round)
    if isinstance(event, SpoolDamaged):
        state = replace(state, spool=None)
    if job.stage is Stage.STOPPING:
        state, following = replace(state, job=None, next_assignment=None), state.next_assignment
        return (state, ()) if following is None else _begin(state, following)
    return _go_on(state, job, event)


def _go_on(state: DeviceState, job: Job, event: Ending) -> Step:
    assignment, idle = job.answers, replace(state, job=None)
    match event:
        case WorkFinished():
            return _deliver(state, replace(job, stage=Stage.DELIVERING))
        case WorkFailed():
            failure = ReportFailure(round=assignment.round, message=event.message, out_of_memory=event.out_of_memory)
            return idle, (Say(text=f"round {assignment.round} failed: {event.message}"), failure)
        case TransferBroke():
            words = Say(text=f"round {assignment.round}: {event.message}; {_KEPT}")
            idle, again = _begin(idle, assignment) if job.pushed_again else (idle, ())
            return idle, (words, *again)
        case DeliveryRefused():
            return idle, (Say(text=event.message),)
        case SpoolDamaged():
            return _begin(idle, assignment)
        case Delivered() | JobStopped():
            return idle, ()


# --- what ends an update's use ---


def _verdict_arrived(state: DeviceState, event: VerdictArrived) -> Step:
    number = event.round
    in_memory = state.uncommitted_round == number
    on_disk = state.spool is not None and state.spool.round == number
    if in_memory:
        state = replace(state, uncommitted_round=None)  # committed or rolled back: a second verdict finds nothing
    if event.accepted:
        if in_memory:
            return state, (Commit(round=number),)
        return state, (CommitSpooled(round=number),) if on_disk else ()
    out: list[Command] = [Say(text=f"round {number}: update {event.reason}")]
    if in_memory:
        out.append(RollBack(round=number))
    if on_disk:
        state, orders = _clear_spool(state)
        out += orders
    return state, tuple(out)


def _round_closed(state: DeviceState, event: RoundClosed) -> Step:
    out: tuple[Command, ...] = ()
    if state.next_assignment is not None and state.next_assignment.round <= event.round:
        state = replace(state, next_assignment=None)
    if state.job is not None and state.job.answers.round <= event.round:
        state, out = _stop_job(state, "has closed")
    if state.spool is not None and state.spool.round <= event.round:
        state, orders = _clear_spool(state)
        out += orders
    return state, out


def _clear_spool(state: DeviceState) -> Step:
    """Drop the spooled update, and stop sending it."""
    job = state.job
    state, stop = _stop_job(state) if job is not None and job.stage is Stage.DELIVERING else (state, ())
    return replace(state, spool=None), (*stop, ClearSpool())


def _time_passed(state: DeviceState, event: Tick) -> Step:
    if event.now_s < state.deadline_at_s:
        return state, _wake(state)  # the timer that sent this is spent
    if not state.connected:
        return state, ()  # the round may be opened anew meanwhile: the next welcome sets the timer
    return _stop_job(replace(state, next_assignment=None), "has passed its deadline")


def _wake(state: DeviceState) -> tuple[WakeAt, ...]:
    if state.job is None or math.isinf(state.deadline_at_s):
        return ()
    return (WakeAt(at_s=state.deadline_at_s),)
