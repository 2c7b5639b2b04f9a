"""Run folders that an earlier version wrote (tests/fixtures/run_of_8680516) are still read, and gone on with."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedcore.cli.main import app
from fedcore.core.contract.protocols import Json
from fedcore.server.run.inspect_run import replay_run, run_status
from fedcore.server.run.journal import read_events
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from tests.tiny_run import write_model

STORED = Path(__file__).parents[1] / "fixtures" / "run_of_8680516"


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, RunFolder]:
    """Copies of the stored folders: opening a ledger writes beside it."""
    write_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)  # the stored configuration names the model by a relative path
    for name in ("finished", "interrupted"):
        shutil.copytree(STORED / name, tmp_path / name)
    return {name: RunFolder(tmp_path / name) for name in ("finished", "interrupted")}


def command(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def lacking(older: Json, newer: Json, where: str = "summary") -> list[str]:
    """Name what `newer` lacks of `older`, or has otherwise; more keys are fine."""
    if isinstance(older, dict):
        return [fault for key, value in older.items() for fault in lacking(value, newer.get(key), f"{where}.{key}")]
    if isinstance(older, list) and isinstance(newer, list) and len(older) == len(newer):
        pairs = zip(older, newer, strict=True)
        return [fault for place, (one, other) in enumerate(pairs) for fault in lacking(one, other, f"{where}[{place}]")]
    return [] if older == newer else [where]


def strategy_state(folder: RunFolder) -> Json | None:
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        return ledger.load().strategy_state
    finally:
        ledger.close()


def events_of(folder: RunFolder, kinds: Sequence[str]) -> list[Json]:
    return [event for event in read_events(folder.events) if event["event"] in kinds]


def cells(folder: RunFolder, *, like: RunFolder) -> list[list[str]]:
    """The cells of rounds.csv, as many of every row as the file of `like` has columns."""
    with like.rounds.open(newline="") as file:
        columns = len(next(csv.reader(file)))
    with folder.rounds.open(newline="") as file:
        return [row[:columns] for row in csv.reader(file)]


def test_a_finished_run_is_shown(folders: dict[str, RunFolder]) -> None:
    status = run_status(folders["finished"])
    assert (status["name"], status["total_rounds"], status["next_round"]) == ("old", 4, None)
    assert status["summary"]["totals"]["rounds"] == 4
    shown = json.loads(command("show", folders["finished"].root, "--json"))
    assert shown["summary"] == status["summary"]
    assert "small" in command("show", folders["finished"].root)


def test_an_interrupted_run_is_shown(folders: dict[str, RunFolder]) -> None:
    assert run_status(folders["interrupted"])["next_round"] == 3
    assert "not running; go on with" in command("show", folders["interrupted"].root)


def test_the_choices_of_earlier_runs_are_derived_again(folders: dict[str, RunFolder]) -> None:
    assert {name: replay_run(folder) for name, folder in folders.items()} == {
        "finished": 16,
        "interrupted": 12,
    }  # round 3 was planned


def test_an_interrupted_run_goes_on_to_the_end_that_the_earlier_version_reached(folders: dict[str, RunFolder]) -> None:
    finished, resumed = folders["finished"], folders["interrupted"]
    command("simulate", "--resume", resumed.root)
    assert cells(resumed, like=finished) == cells(finished, like=finished), "columns are added at the end, if at all"
    older, newer = (json.loads(folder.summary.read_bytes()) for folder in (finished, resumed))
    assert lacking(older, newer) == [], "keys are added, and nothing else changes"
    assert strategy_state(resumed) == strategy_state(finished)
    kinds = ("choice", "reward", "pace", "round_closed")
    assert events_of(resumed, kinds) == events_of(finished, kinds)
    assert replay_run(resumed) == 16
