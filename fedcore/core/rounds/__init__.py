"""The round machine: `step(state, event) -> (state, commands)`, without I/O, clock or randomness."""

from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.core.rounds.state import Phase, RoundState

__all__ = ["MemberResult", "MemberStatus", "Phase", "RoundPolicy", "RoundResult", "RoundState", "resume", "step"]
