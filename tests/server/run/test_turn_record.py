"""Results of rounds come back from their JSON equal, and other JSON raises."""

import json

import pytest

from fedcore.core.contract.protocols import Json
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.server.run.turn_record import LedgerState, result_from_json, result_to_json


def result(index: int, void: bool = False) -> RoundResult:
    members = (
        MemberResult(device="a", status=MemberStatus.ACCEPTED, pushed_at_s=0.1, accepted_at_s=1 / 3),
        MemberResult(device="b", status=MemberStatus.LOST, pushed_at_s=0.1, accepted_at_s=None),
    )
    return RoundResult(round=index, void=void, members=members, opened_at_s=0.1, closed_at_s=0.5)


def test_round_results_come_back_equal() -> None:
    assert result_from_json(json.loads(json.dumps(result_to_json(result(3, void=True))))) == result(3, void=True)


@pytest.mark.parametrize(
    ("change", "error"),
    [({"members": 1}, TypeError), ({"members": [["a", "no such status", 0.0, None]]}, ValueError)],
)
def test_any_other_json_raises(change: Json, error: type[Exception]) -> None:
    with pytest.raises(error):
        result_from_json({**result_to_json(result(1)), **change})
    with pytest.raises(KeyError):
        result_from_json({})


def test_a_run_has_finished_once_it_has_no_next_round() -> None:
    values = {"run_id": "", "config_toml": "", "fingerprint": "", "labels": (), "void_streak": 0, "void_rounds": 0}
    states = [
        LedgerState(**values, next_round=number, strategy_state=None, global_blobs=(), assignments=())
        for number in (1, None)
    ]
    assert [state.finished for state in states] == [False, True]
