import json
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.client.data.in_memory.tables import rows_in_memory
from fedcore.client.data.rows import Rows, read_rows
from fedcore.core.errors import DataError

TEXTS = ["a good film", "a bad film", "so so"]
LABELS = [1, 0, 2]
DICTS = [{"text": text, "label": label, "other": None} for text, label in zip(TEXTS, LABELS, strict=True)]
COLUMNS = {"text": TEXTS, "label": LABELS}
TABLES = {
    "a list of dicts": DICTS,
    "a tuple of dicts": tuple(DICTS),
    "an iterator of dicts": iter(DICTS),
    "a dict of columns": COLUMNS,
    "a pair of lists": (TEXTS, LABELS),
    "a pair of arrays": (np.array(TEXTS), np.array(LABELS)),
    "a pair with a tensor": (TEXTS, torch.tensor(LABELS)),
    "singletons": ([(text,) for text in TEXTS], LABELS),
    "a data set": datasets.Dataset.from_dict(COLUMNS),
    "a data set of tensors": datasets.Dataset.from_dict(COLUMNS).with_format("torch"),
    "a streamed data set": datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(),
    "a frame": pandas.DataFrame(DICTS),
    "a frame with an index of its own": pandas.DataFrame(COLUMNS, index=[7, 7, 1]),
}


def rows(table: Any, text: tuple[str, ...] = ("text",), label: str = "label") -> Rows:
    return rows_in_memory(table, text=text, label=label, source="train")


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_shape_gives_the_same_rows(table: Any) -> None:
    read = rows(table)
    assert read.texts == tuple((text,) for text in TEXTS)
    assert read.labels == ("1", "0", "2")
    assert read.source == "train"
    assert all(type(text) is str for row in read.texts for text in row)


@pytest.mark.parametrize(
    "table",
    [
        [{"premise": "a", "claim": "b", "fits": True}],
        {"premise": ["a"], "claim": ["b"], "fits": [1.0]},
        ([("a", "b")], [True]),
        ([["a", "b"]], np.array([True])),
        pandas.DataFrame({"fits": [1], "claim": ["b"], "premise": ["a"]}),
    ],
)
def test_pairs_of_texts(table: Any) -> None:
    read = rows(table, ("premise", "claim"), "fits")
    assert (read.texts, read.labels) == ((("a", "b"),), ("1",))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip),
            st.one_of(
                st.integers(), st.booleans(), st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
            ),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_rows_are_those_of_a_file_with_the_same_cells(cells: list[tuple[str, Any]]) -> None:
    table = [{"text": text, "label": label} for text, label in cells]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
        read = read_rows(file, text=["text"], label="label")
    handed = rows(table)
    assert (handed.texts, handed.labels) == (read.texts, read.labels)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "train: no row; expected at least one"),
        (3, "train: expected a list of dicts, a dict of columns, .*, got int"),
        ("rows.csv", "train: expected .*, got str"),
        (b"rows", "train: expected .*, got bytes"),
        (
            [("a", 1)],
            r"train: row 1: expected a dict such as \{'text': ..., 'label': ...\}, got tuple; .*\(texts, labels\)",
        ),
        ([*DICTS, 3], "train: row 4: expected a dict .*, got int"),
        ([{"text": "a", "lable": 1}], "train: row 1: no column 'label'; did you mean 'lable'"),
        ({"text": ["a"]}, "train: no column 'label'; columns: text"),
        ({}, "train: no column 'text'; columns: none"),
        ({"text": ["a", "b"], "label": [1]}, "train: columns of different lengths: 2 in 'text', 1 in 'label'"),
        ({"text": "ab", "label": [1, 2]}, "train: column 'text': expected a sequence, got str"),
        ({"text": ["a"], "label": 1}, "train: column 'label': expected a sequence, got int"),
        ((["a", "b"], [1]), "train: 2 texts but 1 labels"),
        (([("a", "b")], [1]), r"train: row 1 has 2 text\(s\), and data.text names 1 column"),
        ([{"text": None, "label": 1}], "train: row 1: column 'text' is empty"),
        ([{"text": " ", "label": 1}], "train: row 1: column 'text' is empty"),
        ([{"text": 3, "label": 1}], "train: row 1: column 'text' holds int, expected text"),
        ([{"text": "a", "label": [1]}], "train: row 1: label column 'label' holds list"),
        ([*DICTS, {"text": "a", "label": float("nan")}], "train: row 4: label column 'label' is empty"),
        (pandas.DataFrame({"text": ["a", None], "label": [1, 2]}), "train: row 2: column 'text' is empty"),
        (pandas.DataFrame({"text": ["a", "b"], "label": [1, None]}), "train: row 2: label column 'label' is empty"),
        (pandas.DataFrame([["a", "b", 1]], columns=["text", "text", "label"]), "train: 2 columns are called 'text'"),
        (pandas.DataFrame({"review": ["a"], "label": [1]}), "train: no column 'text'; columns: review, label"),
        (
            datasets.DatasetDict({"train": datasets.Dataset.from_dict(COLUMNS)}),
            r"train: has the splits train; hand one of them over, such as data\['train'\]",
        ),
        (object(), "train: expected .*, got object"),
    ],
)
def test_what_is_wrong_is_named(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        rows(table)


def test_missing_values_of_pandas_are_empty_cells() -> None:
    frame = pandas.DataFrame({"text": pandas.array(["a", pandas.NA], dtype="string"), "label": [1, 2]})
    with pytest.raises(DataError, match=r"^train: row 2: column 'text' is empty"):
        rows(frame)


def test_a_column_that_rows_are_dealt_by_is_read_too() -> None:
    columns = {"text": ["a", "b"], "label": [1, 2], "lang": ["en", 7]}
    rows = rows_in_memory(columns, text=("text",), label="label", by="lang", source="train")
    assert rows.groups == ("en", "7")
    with pytest.raises(DataError, match=r"train: \(texts, labels\) has no column 'lang', which data.partition names"):
        rows_in_memory((["a", "b"], [1, 2]), text=("text",), label="label", by="lang", source="train")
