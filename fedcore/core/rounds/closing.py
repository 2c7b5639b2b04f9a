"""The end of a round: lost members, its result, and the state after it."""

from dataclasses import replace

from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.core.rounds.state import Member, RoundState


def expire_leases(state: RoundState) -> RoundState:
    """Mark pending members with an expired lease as lost."""
    if not state.pending:
        return state
    lost = {
        device: replace(member, status=MemberStatus.LOST)
        for device, member in state.members.items()
        if member.status is None and state.now_s >= state.lease_end_s(device)
    }
    return state.with_members(lost) if lost else state


def close(state: RoundState) -> tuple[RoundState, RoundResult]:
    """Close the open round now and return the state that waits to plan the next one.

    Pending members have missed the deadline. The round is void if fewer updates than the quorum were accepted.
    Too many void rounds in a row set a reason to pause, which takes effect once this result is durable.
    """
    state = expire_leases(state)
    members = tuple(_result(state, device, member) for device, member in sorted(state.members.items()))
    accepted = sum(member.status is MemberStatus.ACCEPTED for member in members)
    void = accepted < state.policy.quorum_count(len(members))
    closed = RoundResult(
        round=state.round, void=void, members=members, opened_at_s=state.opened_at_s, closed_at_s=state.now_s
    )
    streak = state.void_streak + 1 if void else 0
    reason = None
    if streak >= state.policy.max_void_rounds:
        reason = (
            f"{streak} rounds in a row missed quorum (round {state.round}: {accepted} of {len(members)} updates); "
            "see why devices fail or raise the deadline, then resume the run"
        )
    state = replace(
        state.without_members(),
        round=state.round + 1,
        void_streak=streak,
        void_rounds=state.void_rounds + void,
        closed=closed,
        pause_reason=reason,
    )
    return state, closed


def _result(state: RoundState, device: str, member: Member) -> MemberResult:
    return MemberResult(
        device=device,
        status=MemberStatus.MISSED_DEADLINE if member.status is None else member.status,
        pushed_at_s=state.opened_at_s if member.pushed_at_s is None else member.pushed_at_s,
        accepted_at_s=member.accepted_at_s,
    )
