"""An edge's partial at the round machine: all of its devices count, or none.

A partial may count a device that failed: it may have failed below one parent while another parent has its update. So a
refusal names only devices that are counted, and the edge that receives it may acknowledge them.
"""

from dataclasses import replace

from fedcore.core.rounds import commands, events
from fedcore.core.rounds.result import MemberResult, MemberStatus
from fedcore.core.rounds.state import Member, Phase, RoundState


def partial_arrived(state: RoundState, event: events.PartialArrived) -> tuple[RoundState, tuple[commands.Command, ...]]:
    """Accept a partial, refuse it naming the devices counted already, or refuse it where its round is not open."""
    devices = tuple(device for device, _ in event.device_times)
    counted = tuple(sorted(device for device in set(devices) if _counted(state, event.round, device)))
    if counted:
        refusal = commands.RefuseOverlap(edge=event.edge, number=event.number, round=event.round, devices=counted)
        return state, (refusal,)
    is_open = state.phase is Phase.OPEN and event.round == state.round
    if not is_open or not all(device in state.members for device in devices):
        return state, (commands.RefusePartial(edge=event.edge, number=event.number, round=event.round),)
    accepted = {device: _accepted(state, state.members[device], time_s) for device, time_s in event.device_times}
    answer = commands.AcceptPartial(edge=event.edge, number=event.number, round=event.round, devices=devices)
    return state.with_members(accepted), (answer,)


def _counted(state: RoundState, index: int, device: str) -> bool:
    """Whether the round has this device's update, where it is open or the last one that closed."""
    part: Member | MemberResult | None = None
    if state.phase is Phase.OPEN and index == state.round:
        part = state.members.get(device)
    elif state.closed is not None and state.closed.round == index:
        part = state.closed.member(device)
    return part is not None and part.status is MemberStatus.ACCEPTED


def _accepted(state: RoundState, member: Member, time_s: float) -> Member:
    """Return the member as accepted, with the time measured at its parent: waiting at the edge is not the device's."""
    pushed_at_s = state.opened_at_s if member.pushed_at_s is None else member.pushed_at_s
    accepted_at_s = min(state.now_s, pushed_at_s + max(0.0, time_s))
    return replace(member, status=MemberStatus.ACCEPTED, pushed_at_s=pushed_at_s, accepted_at_s=accepted_at_s)
