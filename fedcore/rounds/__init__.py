"""The round machine: `step(state, event) -> (state, commands)`, without I/O, clock or randomness."""

from fedcore.rounds.machine import resume, step
from fedcore.rounds.policy import RoundPolicy
from fedcore.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.rounds.state import Phase, RoundState

__all__ = ["MemberResult", "MemberStatus", "Phase", "RoundPolicy", "RoundResult", "RoundState", "resume", "step"]
