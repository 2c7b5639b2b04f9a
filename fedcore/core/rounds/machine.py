"""The round machine, without I/O: `step(state, event) -> (state, commands)`.

    WAITING --enough devices--> PLANNING --Planned--> OPEN --all resolved, or deadline--> PLANNING ...
       ^------- empty plan --------'  '--TurnDone--> DONE            any --Stop, voids, no devices--> PAUSED

Theory of operation. A run is a sequence of numbered rounds, and a `Turn` is the only way from one to the next: the
shell closes a round and plans its successor in one commit. While a Turn is out (PLANNING), nothing but its answer moves
the run on, and device events only note which devices are here. So the machine is at most one Turn ahead of the
durable state, and a resumed run begins in WAITING with the round after the last commit.

In an OPEN round a member is pending until it is resolved: accepted, rejected, lost (its lease ran out) or, at the
deadline, missed. Accepted is final. A partial that holds a rejected member's update makes it accepted after all. A lost
member that gives a sign of life is pending again: its update may be under way.

Every step has the same order, and its commands come in that order:

1. Time never goes back: an event of an earlier moment counts as happening now.
2. Deadlines that are due are acted on before the event (`_check_deadline`). An event at or after a deadline comes
   too late, even if the timer of the deadline is later still. No event answers a Turn that begins here.
3. The event does what its rule says (`RULES`).
4. The machine goes on where the event made it possible (`_settle`): leases expire, a round with no pending member
   closes, enough devices are here to plan for. This is in one place, so that no rule needs to do it.
5. The next wake-up is set (`schedule`), for the new state.

Pure: no clock, no randomness, no I/O; equal arguments give equal results, and no order of events raises. Rules:

- A round closes once every member is resolved, or at its deadline, which unresolved members have missed. With fewer
  accepted updates than the quorum it is void. Rounds are numbered attempts: after any close, void or not, comes
  round + 1; a void round does not count towards `total_rounds`. `max_void_rounds` in a row pause the run.
- A closed stream loses no device, an expired lease does. A device that comes back while the round is open is pending
  again.
- An update is accepted at most once, only from a member of the open round and before its deadline. The devices of a
  partial are accepted together: where one of them is counted already, none is, and the edge folds again without it.
  A device that failed below one parent still counts if another parent had its update.
- Every time-out of the machine stands in `WakeAt`; while a `Turn` is out, it waits for the shell alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fedcore.core.rounds import commands, events
from fedcore.core.rounds.closing import close, expire_leases
from fedcore.core.rounds.commands import Command
from fedcore.core.rounds.partials import partial_arrived
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberStatus, RoundResult
from fedcore.core.rounds.state import Member, Phase, Presence, RoundState
from fedcore.core.rounds.waking import schedule

Step = tuple[RoundState, tuple[Command, ...]]

_OVER = (Phase.DONE, Phase.PAUSED)
_TURN_ANSWERS = (events.Planned, events.TurnDone)


def resume(policy: RoundPolicy, next_round: int = 1, void_streak: int = 0, void_rounds: int = 0) -> RoundState:
    """Return the state of a run that goes on with `next_round`; by default of a new run.

    `void_rounds` is how many of the earlier rounds were void. A run that had paused on its void rounds gets
    a new streak: its operator chose to go on.
    """
    return RoundState(
        policy=policy,
        round=next_round,
        void_streak=0 if void_streak >= policy.max_void_rounds else void_streak,
        void_rounds=void_rounds,
        devices_needed=policy.min_devices,
    )


def step(state: RoundState, event: events.Event) -> Step:
    """Return the state after `event` and what the shell has to do now. Never raises, whatever the order."""
    state = state.at(event.now_s)
    state, timed_out = _check_deadline(state)
    rule = _ignore if timed_out and type(event) in _TURN_ANSWERS else RULES[type(event)]
    state, answers = rule(state, event)
    state, follow_ups = _settle(state)
    state, wake = schedule(state, event)
    return state, timed_out + answers + follow_ups + wake


def _started(state: RoundState, _: events.Started) -> Step:
    if state.phase is not Phase.WAITING or state.wait_until_s is not None:
        return state, ()
    state = replace(state, wait_until_s=state.now_s + state.policy.join_deadline_s)
    # A run that is resumed after its last round has only to finish, and needs no device for that.
    return _turn(state, None) if state.is_last else (state, ())


def _joined(state: RoundState, event: events.Joined) -> Step:
    session = state.sessions.get(event.device)
    if session is not None and event.epoch <= session.epoch:
        return state, (commands.Fence(device=event.device, epoch=event.epoch),)
    fences: tuple[Command, ...] = ()
    if session is not None and session.connected:
        fences = (commands.Fence(device=event.device, epoch=session.epoch),)
    presence = Presence(epoch=event.epoch, connected=True, seen_s=state.now_s)
    state = replace(state.with_session(event.device, presence), fresh=True)
    member = state.members.get(event.device)
    if member is None or member.status not in (None, MemberStatus.LOST):
        return state, fences
    state, push = _push(state, event.device, member)
    return state, fences + push


def _left(state: RoundState, event: events.Left) -> Step:
    session = state.sessions.get(event.device)
    if session is None or session.epoch != event.epoch:
        return state, ()
    seen_s = min(session.seen_s, state.now_s - state.policy.lease_s) if event.lost else session.seen_s
    state = state.with_session(event.device, replace(session, connected=False, seen_s=seen_s))
    member = state.members.get(event.device) if event.lost else None
    if member is None or member.status is not None:
        return state, ()
    return _with_member(state, event.device, replace(member, status=MemberStatus.LOST)), ()


def _alive(state: RoundState, event: events.Alive) -> Step:
    session = state.sessions.get(event.device)
    if session is None or session.epoch != event.epoch:
        return state, ()
    return _renew(state, event.device), ()


def _renew(state: RoundState, device: str) -> RoundState:
    """Renew the lease of a device; a member that was lost in silence is pending again (it has its assignment)."""
    session = state.sessions.get(device)
    if session is None:
        return state
    returned = not state.in_lease(session)
    state = state.with_session(device, Presence(epoch=session.epoch, connected=session.connected, seen_s=state.now_s))
    if returned and session.connected and not state.fresh:
        state = replace(state, fresh=True)
    member = state.members.get(device)
    if member is not None and member.status is MemberStatus.LOST:
        state = _with_member(state, device, replace(member, status=None))
    return state


def _update_arrived(state: RoundState, event: events.UpdateArrived) -> Step:
    state = _renew(state, event.device)
    device, index = event.device, event.round
    member = state.members.get(device) if index == state.round else None
    if member is not None and member.status in (None, MemberStatus.LOST):
        accepted = Member(
            status=MemberStatus.ACCEPTED,
            pushed_at_s=state.opened_at_s if member.pushed_at_s is None else member.pushed_at_s,
            accepted_at_s=state.now_s,
        )
        return _with_member(state, device, accepted), (commands.Accept(device=device, round=index),)
    if member is not None and member.status is MemberStatus.ACCEPTED:
        return state, (commands.AckDuplicate(device=device, round=index),)
    return state, (_refusal(state, device, index),)


def _refusal(state: RoundState, device: str, index: int) -> Command:
    """Answer an update that no open assignment asks for."""
    if index < 1 or index >= state.round:
        return commands.RefuseUnknown(device=device, round=index)
    if state.closed is not None and state.closed.round == index:
        part = state.closed.member(device)
        if part is None:
            return commands.RefuseUnknown(device=device, round=index)
        if part.status is MemberStatus.ACCEPTED:  # its acknowledgement was lost on the way
            return commands.AckDuplicate(device=device, round=index)
    return commands.RefuseLate(device=device, round=index)


def _update_refused(state: RoundState, event: events.UpdateRefused) -> Step:
    state = _renew(state, event.device)
    member = state.members.get(event.device)
    if event.round != state.round or member is None or member.status not in (None, MemberStatus.LOST):
        return state, ()
    status = MemberStatus.OUT_OF_MEMORY if event.out_of_memory else MemberStatus.REJECTED
    return _with_member(state, event.device, replace(member, status=status)), ()


def _planned(state: RoundState, event: events.Planned) -> Step:
    if state.phase is not Phase.PLANNING or state.is_last or event.round != state.round:
        return state, ()
    if state.pause_reason is not None:
        return _pause(state, state.pause_reason)
    if not event.cohort:
        until_s = state.now_s + state.policy.join_deadline_s
        return replace(state, phase=Phase.WAITING, wait_until_s=until_s, devices_needed=1), ()
    cohort = sorted(set(event.cohort))
    # A device that left meanwhile is pending too, under its running lease; it gets the assignment when it comes back.
    connected = {device for device in cohort if device in state.sessions and state.sessions[device].connected}
    members = {device: Member(pushed_at_s=state.now_s if device in connected else None) for device in cohort}
    state = replace(state, phase=Phase.OPEN, opened_at_s=state.now_s).with_members(members)
    return state, tuple(commands.Push(device=device, round=state.round) for device in cohort if device in connected)


def _turn_done(state: RoundState, _: events.TurnDone) -> Step:
    if state.phase is not Phase.PLANNING or not state.is_last:
        return state, ()
    return replace(state, phase=Phase.DONE), (commands.Finish(),)


def _stop(state: RoundState, _: events.Stop) -> Step:
    if state.phase in _OVER:
        return state, ()
    reason = f"stopped on request in round {state.round}; this round starts anew when the run is resumed"
    if state.phase is Phase.PLANNING and state.pause_reason is None:
        return replace(state, pause_reason=reason), ()  # the commit under way ends first; a second Stop pauses at once
    return _pause(state, reason)


def _ignore(state: RoundState, _: events.Event) -> Step:
    return state, ()


RULES: Mapping[type[Any], Callable[[RoundState, Any], Step]] = {
    events.Started: _started,
    events.Joined: _joined,
    events.Left: _left,
    events.Alive: _alive,
    events.UpdateArrived: _update_arrived,
    events.UpdateRefused: _update_refused,
    events.PartialArrived: partial_arrived,
    events.Planned: _planned,
    events.TurnDone: _turn_done,
    events.Stop: _stop,
    events.Tick: _ignore,  # the time alone matters
}


def _check_deadline(state: RoundState) -> Step:
    """Act on deadlines before the event, so that no event after a deadline counts."""
    if state.phase is Phase.OPEN and state.now_s >= state.deadline_at_s:
        return _turn(*close(state))
    if state.phase is Phase.WAITING and state.wait_until_s is not None and state.now_s >= state.wait_until_s:
        return _pause(state, _too_few(state))
    return state, ()


def _too_few(state: RoundState) -> str:
    limit_s, here = state.policy.join_deadline_s, len(state.roster)
    if min(here, state.connected) >= state.devices_needed:
        return (
            f"round {state.round}: there was no work for the {here} device(s) that are here, nobody else came within "
            f"{limit_s:g} s; where the log has memory_ceiling 0, start devices with more memory, then resume the run"
        )
    return (
        f"round {state.round} needs {state.devices_needed} device(s) and {here} were here after {limit_s:g} s; "
        f"start more devices, then resume the run"
    )


def _settle(state: RoundState) -> Step:
    """Go on where the event made it possible: expire leases, close a resolved round, plan for a device that came."""
    if state.phase is Phase.OPEN:
        if state.wake_at_s is None or state.now_s >= state.wake_at_s:
            state = expire_leases(state)
        if not state.pending:
            return _turn(*close(state))
    if state.phase is Phase.WAITING and state.wait_until_s is not None and state.fresh:
        return _turn(state, None) if state.enough_here else (state, ())
    return state, ()


def _turn(state: RoundState, closed: RoundResult | None) -> Step:
    next_round = None if state.is_last else state.round
    state = replace(state, phase=Phase.PLANNING, fresh=False)
    return state, (commands.Turn(closed=closed, next_round=next_round, roster=state.roster),)


def _pause(state: RoundState, reason: str) -> Step:
    state = replace(state.without_members(), phase=Phase.PAUSED, pause_reason=reason)
    return state, (commands.Pause(reason=reason),)


def _push(state: RoundState, device: str, member: Member) -> Step:
    """Make a member pending and send its assignment; its time counts from the first push."""
    pushed_at_s = state.now_s if member.pushed_at_s is None else member.pushed_at_s
    state = _with_member(state, device, Member(pushed_at_s=pushed_at_s))
    return state, (commands.Push(device=device, round=state.round),)


def _with_member(state: RoundState, device: str, member: Member) -> RoundState:
    return state.with_members({device: member})
