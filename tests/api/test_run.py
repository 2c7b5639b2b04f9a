"""A run read from its folder, whoever made it."""

import json
import math
import shutil
import sys
from pathlib import Path

import pandas
import pytest

import fedcore
from fedcore.core.config.toml import to_toml
from fedcore.core.errors import ConfigError, RunError
from fedcore.server.run.journal import COLUMNS
from tests.api.conftest import Command, untrained_tables
from tests.tiny_run import write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder, made by the command."""
    root = tmp_path_factory.mktemp("made")
    write_model(root / "model")
    (root / "none.toml").write_text(to_toml(fedcore.load_config(untrained_tables())))
    Command(root)("simulate", "none.toml")
    return root


@pytest.fixture
def run(made: Path, place: Path) -> fedcore.Run:
    """The same, to break."""
    shutil.copytree(made / "runs", place / "runs")
    (place / "model").symlink_to(made / "model")
    return fedcore.Run("runs/none")


def test_what_the_command_made_is_read(run: fedcore.Run, place: Path) -> None:
    assert (run.path, repr(run)) == (Path("runs/none"), "Run('runs/none')")
    assert run.summary == json.loads((place / "runs/none/summary.json").read_text())
    assert run.summary["totals"]["rounds"] == 3
    assert run.config.run.name == "none"
    events = [each["event"] for each in run.events()]
    assert (events[0], events[-1]) == ("started", "finished")


def test_rounds_are_rows_of_numbers_and_words(run: fedcore.Run) -> None:
    rows = run.rounds
    assert len(rows) == 9
    assert [row["round"] for row in rows] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    first = rows[0]
    assert list(first) == list(COLUMNS)
    assert (first["device"], first["class"], first["status"]) == ("big-0", "big", "accepted")
    assert type(first["rank"]) is int and type(first["time_s"]) is float
    assert [row["device"] for row in rows[1:3]] == ["big-1", "small-0"]
    assert rows[-1]["round"] == 3
    assert repr(rows) == "<9 rows of 3 rounds>"


def test_rounds_become_a_frame(run: fedcore.Run) -> None:
    frame = run.rounds.to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert frame.groupby("class")["round"].count().to_dict() == {"big": 6, "small": 3}
    assert frame["rank"].dtype.kind == "i" and frame["time_s"].dtype.kind == "f"


def test_a_number_that_is_not_known_is_none(run: fedcore.Run) -> None:
    with (run.path / "rounds.csv").open("a") as file:
        file.write("4,big-0,big,lost" + "," * (len(COLUMNS) - 4) + "\n")
    assert run.rounds[-1] == {**dict.fromkeys(COLUMNS), "round": 4, "device": "big-0", "class": "big"} | {
        "status": "lost",
        "timing": "",
        "network": "",
    }
    assert math.isnan(run.rounds.to_pandas()["rank"].iloc[-1])


def test_without_pandas_the_remedy_is_told(run: fedcore.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"^to_pandas needs pandas: pip install pandas$"):
        run.rounds.to_pandas()


def test_a_run_that_has_not_begun_is_empty(place: Path) -> None:
    (place / "run").mkdir()
    (place / "run" / "config.toml").touch()
    run = fedcore.Run(place / "run")
    assert (list(run.rounds), list(run.events())) == ([], [])
    assert run.rounds.to_pandas().equals(pandas.DataFrame(columns=list(COLUMNS)))
    with pytest.raises(
        RunError, match=r"has no summary.json: the run has not finished; wait for its end, or resume it"
    ):
        _ = run.summary


def test_what_is_damaged_is_named(run: fedcore.Run) -> None:
    (run.path / "summary.json").write_text('{"schema": 1')
    with pytest.raises(RunError, match=r"^runs/none/summary.json is damaged: .*; restore it from a copy$"):
        _ = run.summary
    with (run.path / "rounds.csv").open("a") as file:
        file.write("four,big-0\n")
    with pytest.raises(RunError, match=r"^runs/none/rounds.csv is damaged: .*'four'"):
        _ = run.rounds


@pytest.mark.parametrize("name", ["nothing", "."])
def test_a_folder_of_no_run_is_refused(place: Path, name: str) -> None:
    with pytest.raises(RunError, match=rf"^{name} is not a run folder \(no config.toml in it\)"):
        fedcore.Run(name)


def test_an_export_is_asked_for_in_one_way(run: fedcore.Run) -> None:
    for asked in ({}, {"device_class": "big", "sparsity": 0.5}):
        with pytest.raises(
            ConfigError, match=r'^give either a device class, export\("NAME"\), or export\(sparsity=S\)$'
        ):
            run.export(**asked)
    with pytest.raises(ConfigError, match=r"^sparsity: expected a number in \[0, 1\), got 1$"):
        run.export(sparsity=1)
    with pytest.raises(ConfigError, match=r"^device class '\.\./big'"):
        run.export("../big")
    with pytest.raises(ConfigError, match=r"^no device class 'medium' in this run; it has \['big', 'small'\]$"):
        run.export("medium")
    (run.path / "taken").mkdir()
    with pytest.raises(RunError, match=r"taken exists; choose a new folder with out=$"):
        run.export("big", out=run.path / "taken")


def test_what_was_never_trained_is_not_exported(run: fedcore.Run) -> None:
    with pytest.raises(RunError, match=r'^runs/none trained nothing, as simulation.training = "none" says'):
        run.export("big")


def test_a_finished_run_s_export_is_returned_as_it_is(run: fedcore.Run) -> None:
    (run.path / "exports" / "big").mkdir(parents=True)
    assert run.export("big") == run.path / "exports" / "big"
