"""Rows that a caller hands over: what stays a name, what becomes a file, and how faults name the argument."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.api.data import RunData, run_data
from fedcore.client.data.rows import Rows
from fedcore.core.config.tables import Config, DataConfig
from fedcore.core.errors import DataError

CONFIG = Config(data=DataConfig(train="fetch:movies", test="held.csv"))
ROWS = Rows(texts=(("größe",), ("b\n",)), labels=("1", "neg"))
LINES = '{"text": "größe", "label": "1"}\n{"text": "b\\n", "label": "neg"}\n'


def test_what_is_not_given_is_what_the_configuration_says() -> None:
    assert run_data(CONFIG, train=None, test=None) == RunData(train="fetch:movies", test="held.csv")


def test_a_path_that_is_there_is_made_absolute(place: Path) -> None:
    (place / "rows.csv").write_text("text,label\na,1\n")
    data = run_data(CONFIG, train=Path("rows.csv"), test="owner/name:test")
    assert data == RunData(train=str(place / "rows.csv"), test="owner/name:test")


def test_a_table_in_memory_gives_rows_of_the_configured_columns() -> None:
    config = replace(CONFIG, data=replace(CONFIG.data, text=("a", "b"), label="y"))
    data = run_data(config, train=[{"a": "one", "b": "two", "y": 1}], test="")
    assert data == RunData(train=Rows(texts=(("one", "two"),), labels=("1",), source="train"), test="")
    with pytest.raises(DataError, match=r"^test: no row; expected at least one$"):
        run_data(config, train=None, test=[])


def test_rows_in_memory_become_a_file_that_the_configuration_names(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "data"
    config = RunData(train=ROWS, test="held.csv").write(CONFIG, folder)
    assert config == replace(CONFIG, data=replace(CONFIG.data, train=str(folder / "train.jsonl"), test="held.csv"))
    assert (folder / "train.jsonl").read_text(encoding="utf-8") == LINES
    assert [file.name for file in folder.iterdir()] == ["train.jsonl"]


def test_nothing_is_written_for_what_has_a_name(tmp_path: Path) -> None:
    assert RunData(train="fetch:movies", test="held.csv").write(CONFIG, tmp_path / "data") == CONFIG
    assert not (tmp_path / "data").exists()


def test_rows_are_readable_until_the_block_ends_and_a_fault_names_the_argument() -> None:
    data = RunData(train="fetch:movies", test=ROWS)
    with data.readable(CONFIG) as config:
        file = Path(config.data.test)
        assert (config.data.train, file.read_text(encoding="utf-8")) == ("fetch:movies", LINES)
    assert not file.parent.exists()
    with pytest.raises(DataError) as error, data.readable(CONFIG) as config:
        raise DataError(f"{config.data.test}: row 2: no label")
    assert str(error.value) == "test: row 2: no label"


def test_the_column_that_rows_are_dealt_by_is_kept(tmp_path: Path) -> None:
    config = replace(CONFIG, data=replace(CONFIG.data, partition="by:lang"))
    train = {"text": ["a", "b"], "label": ["x", "y"], "lang": ["en", "de"], "other": [1, 2]}
    data = run_data(config, train=train, test=(["c"], ["x"]))
    data.write(config, tmp_path)
    assert (tmp_path / "train.jsonl").read_text().splitlines()[1] == '{"lang": "de", "text": "b", "label": "y"}'
    assert (tmp_path / "test.jsonl").read_text() == '{"text": "c", "label": "x"}\n'
