"""The ledger: one commit per turn, whole after kill -9, locked by one coordinator."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.server.run.ledger import Ledger, TurnRecord

ROOT = Path(__file__).parents[3]
BLOBS = (("0-4", "sha256:" + "a" * 64), ("head", "sha256:" + "b" * 64))


def new(folder: Path) -> Ledger:
    return Ledger.create(folder / "ledger.sqlite", run_id="run-1", config_toml="[run]\n", fingerprint="sha256:base")


def result(index: int, void: bool = False) -> RoundResult:
    members = (
        MemberResult(device="a", status=MemberStatus.ACCEPTED, pushed_at_s=0.1, accepted_at_s=1 / 3),
        MemberResult(device="b", status=MemberStatus.LOST, pushed_at_s=0.1, accepted_at_s=None),
    )
    return RoundResult(round=index, void=void, members=members, opened_at_s=0.1, closed_at_s=0.5)


def turn(index: int | None, *, last: bool = False, void: bool = False, state: Json | None = None) -> TurnRecord:
    """The turn that closes round `index` (None: the first one)."""
    closed = None if index is None else result(index, void)
    return TurnRecord(
        closed=closed,
        outcomes=() if index is None else ({"device": "a", "reward": 0.1 + 0.2}, {"device": "b", "reward": None}),
        report=None if index is None else {"weight": index},
        strategy_state={"closed": index} if state is None else state,
        global_blobs=BLOBS,
        void_streak=int(void),
        next_round=None if last else (index or 0) + 1,
        assignments=() if last else ({"device": "a", "round": (index or 0) + 1},),
    )


def test_new_ledger_stands_before_round_one(tmp_path: Path) -> None:
    state = new(tmp_path).load()
    assert (state.run_id, state.config_toml, state.fingerprint) == ("run-1", "[run]\n", "sha256:base")
    assert (state.next_round, state.finished, state.strategy_state, state.labels) == (1, False, None, ())


def test_turns_survive_closing_and_opening(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    for each in (turn(None), turn(1), turn(2, void=True)):
        ledger.commit_turn(each)
    ledger.set_meta("labels", ["negative", "positive"])
    ledger.close()
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    state = ledger.load()
    assert (state.next_round, state.void_streak, state.void_rounds) == (3, 1, 1)
    assert state.strategy_state == {"closed": 2} and state.global_blobs == BLOBS
    assert state.assignments == ({"device": "a", "round": 3},)
    assert state.labels == ("negative", "positive")
    assert ledger.rounds() == tuple(ledger.iter_rounds()) == (result(1), result(2, void=True))
    assert ledger.last_round() == result(2, void=True)
    told = [(number, rows) for number, _, rows in ledger.iter_outcomes()]
    assert told == list(ledger.outcomes().items())
    assert [void for _, void, _ in ledger.iter_outcomes()] == [False, True]
    assert ledger.outcomes()[1] == ({"device": "a", "reward": 0.1 + 0.2}, {"device": "b", "reward": None})
    assert ledger.reports() == {1: {"weight": 1}, 2: {"weight": 2}}


def test_planning_again_replaces_the_plan(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.commit_turn(turn(None))
    ledger.commit_turn(turn(None, state={"second": True}))
    assert ledger.load().strategy_state == {"second": True} and ledger.rounds() == () and ledger.last_round() is None


def test_finished_run_has_no_next_round(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.commit_turn(turn(1, last=True))
    state = ledger.load()
    assert state.finished and state.next_round is None and state.assignments == ()


def test_a_round_cannot_close_twice_and_the_attempt_changes_nothing(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.commit_turn(turn(1))
    with pytest.raises(RunError, match="committed before"):
        ledger.commit_turn(turn(1, state={"other": True}))
    assert ledger.load().strategy_state == {"closed": 1}


def test_a_value_json_cannot_hold_changes_nothing(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    with pytest.raises(TypeError):
        ledger.commit_turn(turn(1, state={"bytes": b"no"}))
    assert ledger.load().next_round == 1
    ledger.commit_turn(turn(1))
    assert ledger.load().next_round == 2


def test_meta_values_are_json(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    assert ledger.get_meta("elapsed_s") is None
    ledger.set_meta("elapsed_s", 1.5)
    ledger.set_meta("elapsed_s", {"round": [1, 2]})
    assert ledger.get_meta("elapsed_s") == {"round": [1, 2]}


def test_wal_and_full_sync_are_on_and_only_text_and_integers_inside(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.commit_turn(turn(1))
    ledger.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as sql:
        assert sql.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        for table in ("meta", "head", "rounds", "plans"):
            for row in sql.execute(f"SELECT * FROM {table}"):
                assert all(isinstance(value, int | str | None) for value in row)
    ledger = Ledger.open(tmp_path / "ledger.sqlite")
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_second_coordinator_is_told_who_holds_the_run(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    with pytest.raises(RunError, match=rf"in use by a running coordinator \(process {os.getpid()}\); stop it"):
        Ledger.open(tmp_path / "ledger.sqlite")
    with pytest.raises(RunError, match="in use"):
        new(tmp_path)
    watcher = Ledger.open(tmp_path / "ledger.sqlite", read_only=True)
    assert watcher.load().next_round == 1
    with pytest.raises(RunError, match="readonly"):
        watcher.set_meta("labels", [])
    ledger.close()
    Ledger.open(tmp_path / "ledger.sqlite").close()


def test_opening_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no ledger at .*without --resume"):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_creating_over_an_earlier_run_is_refused_and_unlocks(tmp_path: Path) -> None:
    new(tmp_path).close()
    with pytest.raises(RunError, match="exists: continue that run with --resume"):
        new(tmp_path)
    Ledger.open(tmp_path / "ledger.sqlite").close()


@pytest.mark.parametrize("spoil", [b"not a database at all" * 400, b""])
def test_damaged_file_is_named_and_the_folder_unlocked(tmp_path: Path, spoil: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(spoil)
    for _ in range(2):  # the second time shows that the first gave the lock back
        with pytest.raises(RunError, match="damaged" if spoil else "never began"):
            Ledger.open(path)


def test_torn_page_is_found(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.commit_turn(turn(1, state={"long": "x" * 50_000}))
    ledger.close()
    path = tmp_path / "ledger.sqlite"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8192))
    with pytest.raises(RunError, match="damaged"):
        Ledger.open(path)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    new(tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as sql:
        sql.execute("PRAGMA user_version = 99")
    with pytest.raises(RunError, match="schema 99"):
        Ledger.open(tmp_path / "ledger.sqlite")


def test_threads_take_turns(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    threads = [
        threading.Thread(target=lambda key=str(index): [ledger.set_meta(key, n) for n in range(5)])  # type: ignore[misc]
        for index in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ledger.get_meta(str(index)) for index in range(6)] == [4] * 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=25, deadline=None)
@given(state=st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_any_json_state_comes_back_equal(tmp_path_factory: pytest.TempPathFactory, state: Json) -> None:
    ledger = new(tmp_path_factory.mktemp("run"))
    ledger.commit_turn(turn(1, state=state))
    loaded = ledger.load().strategy_state
    ledger.close()
    assert loaded == state and json.dumps(loaded) == json.dumps(state)


WRITER = """
import hashlib, sys
from pathlib import Path
from fedcore.core.rounds.result import RoundResult
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.turn_record import TurnRecord

ledger = Ledger.open(Path(sys.argv[1]))
index = ledger.load().next_round
while True:
    payload = hashlib.sha256(str(index).encode()).hexdigest() * 200
    closed = RoundResult(round=index, void=False, members=(), opened_at_s=0.0, closed_at_s=1.0)
    ledger.commit_turn(TurnRecord(
        closed=closed, outcomes=({"round": index},), strategy_state={"round": index, "payload": payload},
        global_blobs=(("head", payload[:64]),), void_streak=0, next_round=index + 1,
        assignments=({"round": index + 1},),
    ))
    print(index, flush=True)
    index += 1
"""


def kill_at_a_random_moment(path: Path, delay_s: float) -> int:
    """Commit turns in a process until `delay_s` after its first, then kill -9; return the last turn it reported."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    return int([line for line in (first + rest).splitlines(keepends=True) if line.endswith("\n")][-1])


def test_kill_at_any_moment_leaves_the_last_committed_turn_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    new(tmp_path).close()
    chance = random.Random(7)
    for _ in range(8):
        reported = kill_at_a_random_moment(path, chance.uniform(0.0, 0.12))
        ledger = Ledger.open(path)  # checks integrity; the dead process holds no lock
        state = ledger.load()
        closed = ledger.rounds()
        ledger.close()
        # At most the turn that was being reported when the process died is ahead of what it said.
        assert state.next_round in (reported + 1, reported + 2)
        last = state.next_round - 1
        payload = hashlib.sha256(str(last).encode()).hexdigest() * 200
        assert state.strategy_state == {"round": last, "payload": payload}
        assert state.global_blobs == (("head", payload[:64]),)
        assert state.assignments == ({"round": last + 1},)
        assert [each.round for each in closed] == list(range(1, last + 1))


def test_a_note_is_kept_and_what_follows_it_is_as_durable_as_ever(tmp_path: Path) -> None:
    ledger = new(tmp_path)
    ledger.note("close/1", 0.25)
    ledger.note("close/1", 0.5)
    assert ledger.get_meta("close/1") == 0.5
    (level,) = ledger._connection.execute("PRAGMA synchronous").fetchone()
    assert level == 2, "FULL"
    with pytest.raises(TypeError):
        ledger.note("close/2", object())
    ledger.commit_turn(turn(None))
    ledger.close()
    assert Ledger.open(tmp_path / "ledger.sqlite", read_only=True).get_meta("close/1") == 0.5
