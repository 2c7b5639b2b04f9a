"""The durable state of a run: one SQLite file, one commit per turn of the round machine.

A turn closes round N and plans N+1 in one commit: after kill -9 or a power cut at any moment, the file holds the whole
last committed turn (WAL, synchronous=FULL). Values are JSON text and integers, never pickles.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedcore.core.boundary import Boundary
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.core.rounds.result import RoundResult
from fedcore.server.run.compact_json import compact, exact
from fedcore.server.run.turn_record import LedgerState, TurnRecord, result_from_json, result_to_json
from fedcore.storage.folder_lock import FolderLock

__all__ = ["Ledger", "LedgerState", "TurnRecord"]

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0  # readers of a live ledger hold it for milliseconds

_SCHEMA = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # next_round NULL: the run is finished; global_blobs: [[name, blob id], ...]
    """CREATE TABLE head (
        id INTEGER PRIMARY KEY CHECK (id = 0), next_round INTEGER, void_streak INTEGER NOT NULL,
        strategy_state TEXT NOT NULL, global_blobs TEXT NOT NULL)""",
    """CREATE TABLE rounds (
        round INTEGER PRIMARY KEY, void INTEGER NOT NULL, result TEXT NOT NULL, outcomes TEXT NOT NULL,
        report TEXT NOT NULL)""",
    "CREATE TABLE plans (round INTEGER PRIMARY KEY, assignments TEXT NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


class Ledger:
    """An open ledger: get one from `create` or `open`, end with `close`. Safe from any thread, one call at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FolderLock | None) -> None:
        """Use `create` or `open` instead."""
        self._path, self._connection, self._lock = path, connection, lock
        self._mutex = threading.Lock()

    @staticmethod
    def create(path: Path, *, run_id: str, config_toml: str, fingerprint: str) -> "Ledger":
        """Begin the ledger of a new run in an existing folder and lock the folder.

        `fingerprint` names the base model. Raises RunError if a ledger is there, or a coordinator runs.
        """
        lock = FolderLock(path.parent)
        ledger = None
        try:
            if path.exists():
                raise RunError(
                    f"{path} exists: continue that run with --resume {path.parent}, or choose another folder"
                )
            ledger = Ledger(path, _connect(path), lock)
            with ledger._transaction() as sql:
                for statement in _SCHEMA:
                    sql.execute(statement)
                values = {"run_id": run_id, "config_toml": config_toml, "fingerprint": fingerprint}
                sql.executemany(
                    "INSERT INTO meta VALUES (?, ?)", [(key, _exact_text(value)) for key, value in values.items()]
                )
        except BaseException:
            ledger.close() if ledger is not None else lock.release()
            raise
        return ledger

    @staticmethod
    def open(path: Path, *, read_only: bool = False) -> "Ledger":
        """Open the ledger of an earlier run and lock its folder; `read_only` takes no lock.

        Raises RunError if there is none, a coordinator holds the lock, it is damaged, or another version wrote it.
        """
        if not path.is_file():
            raise RunError(
                f"no ledger at {path}: give the folder of an earlier run, or start a new run without --resume"
            )
        lock = None if read_only else FolderLock(path.parent)
        ledger = None
        try:
            ledger = Ledger(path, _connect(path, read_only=read_only), lock)
            ledger._check()
        except BaseException:
            if ledger is not None:
                ledger.close()
            elif lock is not None:
                lock.release()
            raise
        return ledger

    def close(self) -> None:
        """Close the file and unlock the folder."""
        self._connection.close()
        if self._lock is not None:
            self._lock.release()

    def commit_turn(self, turn: TurnRecord) -> None:
        """Commit one turn durably: after this returns, it survives a power cut.

        Raises RunError if its round was closed before, or the disk fails.
        """
        # Encoded before the transaction opens: a value that JSON cannot hold must not leave it half done.
        closed = None
        if turn.closed is not None:
            result, outcomes = _text(result_to_json(turn.closed)), _text(turn.outcomes)
            closed = (turn.closed.round, turn.closed.void, result, outcomes, _text(turn.report))
        assignments = _text(turn.assignments)
        head = (turn.next_round, turn.void_streak, _exact_text(turn.strategy_state), _text(turn.global_blobs))
        with self._transaction() as sql:
            if closed is not None:
                sql.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?)", closed)
            if turn.next_round is not None:
                sql.execute("INSERT OR REPLACE INTO plans VALUES (?, ?)", (turn.next_round, assignments))
            sql.execute("INSERT OR REPLACE INTO head VALUES (0, ?, ?, ?, ?)", head)

    def load(self) -> LedgerState:
        """Return the state after the last committed turn; raises RunError where an entry is damaged."""
        with Boundary(RunError, f"{self._path}: damaged", remedy="restore it from a copy"):
            return self._loaded()

    def _loaded(self) -> LedgerState:
        with self._transaction("BEGIN") as sql:
            meta = {key: json.loads(value) for key, value in sql.execute("SELECT key, value FROM meta")}
            row = sql.execute("SELECT next_round, void_streak, strategy_state, global_blobs FROM head").fetchone()
            next_round, void_streak, state, blobs = row if row is not None else (1, 0, "null", "[]")
            plan = sql.execute("SELECT assignments FROM plans WHERE round = ?", (next_round,)).fetchone()
            (voids,) = sql.execute("SELECT count(*) FROM rounds WHERE void").fetchone()
        return LedgerState(
            run_id=meta["run_id"],
            config_toml=meta["config_toml"],
            fingerprint=meta["fingerprint"],
            labels=tuple(meta.get("labels", ())),
            next_round=next_round,
            void_streak=void_streak,
            void_rounds=voids,
            strategy_state=json.loads(state),
            global_blobs=tuple((name, blob_id) for name, blob_id in json.loads(blobs)),
            assignments=tuple(json.loads(plan[0])) if plan is not None else (),
        )

    def rounds(self) -> tuple[RoundResult, ...]:
        """Return every closed round, in order."""
        with self._transaction("BEGIN") as sql:
            rows = sql.execute("SELECT result FROM rounds ORDER BY round").fetchall()
        return tuple(result_from_json(json.loads(result)) for (result,) in rows)

    def iter_rounds(self) -> Iterator[RoundResult]:
        """Yield every closed round, in order, one read at a time: a long run may not fit in memory."""
        for (result,) in self._rows("result"):
            yield result_from_json(json.loads(result))

    def iter_outcomes(self) -> Iterator[tuple[int, bool, tuple[Json, ...]]]:
        """Yield (round, whether it was void, its outcomes) of every closed round, in order, one read at a time."""
        for number, void, outcomes in self._rows("round, void, outcomes"):
            yield number, bool(void), tuple(json.loads(outcomes))

    def last_round(self) -> RoundResult | None:
        """Return the round that closed last, None if none has."""
        with self._transaction("BEGIN") as sql:
            row = sql.execute("SELECT result FROM rounds ORDER BY round DESC LIMIT 1").fetchone()
        return None if row is None else result_from_json(json.loads(row[0]))

    def _rows(self, columns: str) -> Iterator[tuple[Any, ...]]:
        with self._transaction("BEGIN") as sql:
            numbers = [number for (number,) in sql.execute("SELECT round FROM rounds ORDER BY round")]
        for number in numbers:
            with self._transaction("BEGIN") as sql:
                yield sql.execute(f"SELECT {columns} FROM rounds WHERE round = ?", (number,)).fetchone()

    def outcomes(self) -> dict[int, tuple[Json, ...]]:
        """Return the outcomes of every closed round, by round, in order."""
        with self._transaction("BEGIN") as sql:
            rows = sql.execute("SELECT round, outcomes FROM rounds ORDER BY round").fetchall()
        return {index: tuple(json.loads(outcomes)) for index, outcomes in rows}

    def reports(self) -> dict[int, Json]:
        """Return the report of every closed round that has one, by round, in order."""
        with self._transaction("BEGIN") as sql:
            rows = sql.execute("SELECT round, report FROM rounds ORDER BY round").fetchall()
        return {index: json.loads(report) for index, report in rows if report != "null"}

    def set_meta(self, key: str, value: Any) -> None:
        """Store one JSON value under `key`, durably; `load` returns the value under "labels" as the label list."""
        with self._transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _exact_text(value)))

    def note(self, key: str, value: Any) -> None:
        """Store one JSON value under `key` without waiting for the disk: a power cut may lose it, a crash does not."""
        with self._transaction(durable=False) as sql:
            sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, _exact_text(value)))

    def get_meta(self, key: str) -> Any:
        """Return the JSON value under `key`, None if there is none."""
        with self._transaction("BEGIN") as sql:
            row = sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _check(self) -> None:
        with self._transaction("BEGIN") as sql:
            (version,) = sql.execute("PRAGMA user_version").fetchone()
            (verdict,) = sql.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(self._path, verdict)
        if version == 0:
            raise RunError(f"{self._path} is empty: the run never began; start it anew in another folder")
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{self._path} has schema {version}, this fedcore knows {SCHEMA_VERSION}; use the fedcore that wrote it"
            )

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE", *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run one transaction, rolled back on any error; SQLite's errors become RunError."""
        with self._mutex:
            try:
                if not durable:
                    self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute(begin)
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException as cause:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(cause, sqlite3.Error):
                    raise _refused(self._path, cause) from cause
                raise
            finally:
                if not durable:
                    self._connection.execute("PRAGMA synchronous = FULL")


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    try:
        # Any thread may call, one at a time (Ledger's mutex). Transactions are explicit, so there are no implicit ones.
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except sqlite3.Error as cause:
        raise _refused(path, cause) from cause
    try:
        if read_only:
            connection.execute("PRAGMA query_only = ON")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as cause:
        connection.close()
        raise _refused(path, cause) from cause
    return connection


def _text(value: Any) -> str:
    """Encode records of our own, which hold finite numbers."""
    return compact(value).decode()


def _exact_text(value: Any) -> str:
    return exact(value).decode()


def _refused(path: Path, cause: sqlite3.Error) -> RunError:
    if isinstance(cause, sqlite3.IntegrityError):
        return RunError(f"{path}: this turn was committed before ({cause}); resume from the ledger instead")
    if isinstance(cause, sqlite3.OperationalError):
        return RunError(f"{path}: {cause}; check free space and permissions of the folder, then resume the run")
    return _damaged(path, str(cause))


def _damaged(path: Path, detail: str) -> RunError:
    return RunError(
        f"{path} is damaged ({detail}): restore it from a copy, or start a new run; events.jsonl and exports can still "
        "be read"
    )
