"""The round machine of a run as its configuration and its ledger have it."""

from fedcore.core.config.tables import Config
from fedcore.core.rounds.machine import resume
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import RoundState
from fedcore.server.run.turn_record import LedgerState


def resumed_machine(config: Config, held: LedgerState, *, lease_s: float) -> RoundState:
    """Return the machine that goes on after the last committed turn; of a new run, before its first."""
    settings = config.coordinator
    policy = RoundPolicy(
        total_rounds=config.run.rounds,
        quorum=settings.quorum,
        deadline_s=settings.round_deadline_s,
        lease_s=lease_s,
        min_devices=settings.min_devices,
        max_void_rounds=settings.max_void_rounds,
        join_deadline_s=settings.join_deadline_s,
    )
    following = held.next_round if held.next_round is not None else config.run.rounds + held.void_rounds + 1
    return resume(policy, following, held.void_streak, held.void_rounds)
