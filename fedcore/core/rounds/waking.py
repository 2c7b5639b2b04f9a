"""The time of the machine's next Tick."""

from dataclasses import replace

from fedcore.core.rounds import events
from fedcore.core.rounds.commands import WakeAt
from fedcore.core.rounds.state import Phase, RoundState

_DEVICE_EVENTS = (events.Joined, events.Left, events.Alive, events.UpdateArrived, events.UpdateRefused)


def schedule(state: RoundState, event: events.Event) -> tuple[RoundState, tuple[WakeAt, ...]]:
    """Set the next WakeAt, never later than the first time-out.

    A renewed lease leaves the earlier wake in force, so a sign of life costs no command. A Tick always gets an answer,
    because its timer has fired.
    """
    due_s = _next_timeout_s(state, event)
    if due_s is None:
        return replace(state, wake_at_s=None), ()
    in_force = state.wake_at_s
    if in_force is not None and state.now_s < in_force <= due_s and not isinstance(event, events.Tick):
        return state, ()
    return replace(state, wake_at_s=due_s), (WakeAt(at_s=due_s),)


def _next_timeout_s(state: RoundState, event: events.Event) -> float | None:
    if state.phase is Phase.WAITING:
        return state.wait_until_s
    if state.phase is not Phase.OPEN:
        return None
    if isinstance(event, _DEVICE_EVENTS) and state.wake_at_s is not None and state.now_s < state.wake_at_s:
        return state.lease_end_s(event.device)  # only this time-out can have changed: no loop over the cohort
    pending = (device for device, member in state.members.items() if member.status is None)
    return min((state.deadline_at_s, *(state.lease_end_s(device) for device in pending)))
