"""JSON: objects on lines or in one array, and what is wrong with them."""

from pathlib import Path

import pytest

from fedcore.client.data.json_file import json_array, json_lines
from fedcore.client.data.table import Row, SourceFile
from fedcore.core.errors import DataError

COLUMNS = ("text", "label")


def file_of(folder: Path, content: str) -> SourceFile:
    (folder / "a").write_text(content)
    return SourceFile(path=folder / "a", name="a", source="a")


def test_lines_are_counted_with_the_blank_ones(tmp_path: Path) -> None:
    file = file_of(tmp_path, '\n{"text": "a", "label": 1}\n\n{"label": 2, "text": "b"}\n')
    expected = [Row(("a", 1), line=2), Row(("b", 2), line=4)]
    assert list(json_lines(file, COLUMNS)) == list(json_array(file, COLUMNS)) == expected


def test_an_array_in_a_file_of_lines_is_named(tmp_path: Path) -> None:
    for content in ('[{"text": "a", "label": 1}]\n', '[\n{"text": "a", "label": 1}\n]', '{\n"text": ["a"]\n}'):
        with pytest.raises(DataError, match=r"; expected an object on every line \(\.jsonl\), or one array of objects"):
            list(json_lines(file_of(tmp_path, content), COLUMNS))


def test_an_array_has_no_lines(tmp_path: Path) -> None:
    file = file_of(tmp_path, '[{"text": "a", "label": 1},\n {"text": "b", "label": 2}]')
    assert list(json_array(file, COLUMNS)) == [Row(("a", 1)), Row(("b", 2))]


def test_objects_that_lack_a_column_are_faults_after_the_first(tmp_path: Path) -> None:
    file = file_of(tmp_path, '{"text": "a", "label": 1}\n{"text": "b"}\n7\n{"label": 1}\n')
    assert [(row.line, row.fault) for row in json_lines(file, COLUMNS)] == [
        (1, ""),
        (2, "no 'label' in the object; add it or drop the row"),
        (3, "expected a JSON object, got int; drop it"),
        (4, "no 'text' in the object; add it or drop the row"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "labels": 1}\n', r"^a: row 1: no column 'label'; did you mean 'labels'\?"),
        ('[{"text": "a"}]', r"^a: row 1: no column 'label'; columns: text"),
        ('{"text": "a", "label": 1}\n\n{"text\n', r"^a: row 3 is not valid JSON"),
        ("[1, 2", "^a: not valid JSON"),
    ],
)
def test_what_is_no_table_is_refused(content: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        list(json_array(file_of(tmp_path, content), COLUMNS))
