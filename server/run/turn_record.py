"""The values that a ledger stores and loads, and their JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from fedcore.core.contract.protocols import Json
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """What one turn commits. Every `Json` equals its JSON round trip."""

    closed: RoundResult | None  # None: nothing closed, the next round is planned (again)
    outcomes: Sequence[Json] = ()  # of the closed round
    report: Json | None = None  # of the closed round as a whole: phases, bytes, aggregation
    strategy_state: Json
    global_blobs: tuple[tuple[str, str], ...]  # (name, sha256 hex)
    void_streak: int
    next_round: int | None  # None: the run is finished
    assignments: Sequence[Json] = ()  # of the next round


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """State of a run after its last committed turn; before the first, `next_round` is 1 and there is no state."""

    run_id: str
    config_toml: str
    fingerprint: str  # of the base model
    labels: tuple[str, ...]  # empty: not fixed yet
    next_round: int | None  # None: finished
    void_streak: int
    void_rounds: int  # in all
    strategy_state: Json | None
    global_blobs: tuple[tuple[str, str], ...]
    assignments: tuple[Json, ...]  # of next_round, as last planned

    @property
    def finished(self) -> bool:
        """Whether every round is closed."""
        return self.next_round is None


def result_to_json(result: RoundResult) -> Json:
    """Return a round's result as JSON."""
    return {
        "round": result.round,
        "void": result.void,
        "opened_at_s": result.opened_at_s,
        "closed_at_s": result.closed_at_s,
        "members": [
            [member.device, member.status.value, member.pushed_at_s, member.accepted_at_s] for member in result.members
        ],
    }


def result_from_json(value: Json) -> RoundResult:
    """Return the result that `result_to_json` wrote; raises KeyError, ValueError or TypeError for any other JSON."""
    members = tuple(
        MemberResult(device=device, status=MemberStatus(status), pushed_at_s=pushed, accepted_at_s=accepted)
        for device, status, pushed, accepted in value["members"]
    )
    return RoundResult(
        round=value["round"],
        void=value["void"],
        members=members,
        opened_at_s=value["opened_at_s"],
        closed_at_s=value["closed_at_s"],
    )
