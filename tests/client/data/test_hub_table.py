"""Folders and hub ids: our own readers where the files are of a kind that is read here."""

from pathlib import Path

import pytest

from fedcore.client.data.hub_table import hub_tables
from fedcore.client.data.table import ClassNumber
from fedcore.core.errors import DataError

COLUMNS = ("text", "label")


@pytest.mark.parametrize("spec", ["missing.csv", "missing.jsonl.gz", "a b", "one/two/three", "a:b:c:d"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(spec: str) -> None:
    with pytest.raises(DataError) as error:
        next(hub_tables(spec, COLUMNS, None))
    assert str(error.value) == (
        f"{spec}: no such file; expected a CSV, TSV, JSONL or Parquet file, a folder, or a hub id"
    )


def test_files_of_a_folder_are_tables_whose_text_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train-0.csv").write_text("text,label\nNA,01\n")
    (folder / "train-1.csv").write_text("text,label\ntrue,1\n")
    (folder / "test.csv").write_text("text,label\nheld back,1\n")
    tables = [
        (table.source, table.typed, [row.cells for row in table.rows])
        for table in hub_tables(str(folder), COLUMNS, tmp_path)
    ]
    assert tables == [
        (str(folder / "train-0.csv"), False, [("NA", "01")]),
        (str(folder / "train-1.csv"), False, [("true", "1")]),
    ]


def test_an_id_may_name_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_text("text,label\na,1\n")
    (tmp_path / "set" / "test.csv").write_text("text,label\nb,2\n")
    monkeypatch.chdir(tmp_path)
    tables = hub_tables("set:test", COLUMNS, tmp_path / "cache")
    assert [[row.cells for row in table.rows] for table in tables] == [[("b", "2")]]


def test_what_save_to_disk_wrote_is_one_table_with_its_classes(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    saved = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    saved.save_to_disk(tmp_path / "set")
    (table,) = hub_tables(str(tmp_path / "set"), COLUMNS, None)
    assert (table.source, table.typed) == (str(tmp_path / "set"), True)
    assert [row.cells for row in table.rows] == [("a", ClassNumber(1, "pos")), ("b", ClassNumber(0, "neg"))]
    with pytest.raises(DataError, match=r"set: no column 'texts'; did you mean 'text'\? columns: text, label \(data"):
        next(hub_tables(str(tmp_path / "set"), ("texts",), None))
