"""Parquet and Arrow files: chosen cells with their types, and the classes that a file names."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcore.client.data.arrow_file import arrow, classes_in, parquet
from fedcore.client.data.table import NAMING, ClassNumber, Row, SourceFile
from fedcore.core.errors import DataError

READERS = {"a.parquet": parquet, "a.arrow": arrow, "stream.arrow": arrow}
FEATURES = {"text": {"dtype": "string", "_type": "Value"}, "label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}


def metadata(features: Any) -> dict[bytes, bytes]:
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def written(path: Path, table: pa.Table) -> SourceFile:
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        new = pa.ipc.new_stream if path.name.startswith("stream") else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    return SourceFile(path=path, name=path.name, source=path.name)


@pytest.mark.parametrize("name", READERS)
def test_cells_of_all_batches_keep_their_types(name: str, tmp_path: Path) -> None:
    file = written(tmp_path / name, pa.table({"text": ["a", "b", None], "id": [1, 2, 3], "label": [0.5, 1.0, 2.0]}))
    assert list(READERS[name](file, ("label", "text"))) == [Row((0.5, "a")), Row((1.0, "b")), Row((2.0, None))]


@pytest.mark.parametrize("name", READERS)
def test_classes_that_a_file_names_take_the_place_of_numbers(name: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": [1, -1]}).replace_schema_metadata(metadata(FEATURES))
    file = written(tmp_path / name, table)
    assert list(READERS[name](file, ("text", "label"))) == [Row(("a", ClassNumber(1, "pos"))), Row(("b", None))]


@pytest.mark.parametrize("name", READERS)
def test_a_missing_column_and_a_spoilt_file_are_told(name: str, tmp_path: Path) -> None:
    file = written(tmp_path / name, pa.table({"text": ["a"], "labels": [1]}))
    with pytest.raises(DataError) as error:
        list(READERS[name](file, ("text", "label")))
    assert str(error.value) == f"{name}: no column 'label'; did you mean 'labels'? columns: text, labels{NAMING}"
    file.path.write_bytes(b"no table at all")
    kind = "Parquet" if name == "a.parquet" else "Arrow"
    with pytest.raises(DataError, match=f"^{name}: not a readable {kind} file: "):
        list(READERS[name](file, ("text",)))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (metadata(FEATURES), {"label": ("neg", "pos")}),
        (metadata({"label": {"names": [0, 1], "_type": "ClassLabel"}}), {"label": ("0", "1")}),
        (metadata({"label": {"names": ["neg"], "_type": "Value"}}), {}),
        (metadata({"label": {"names": None, "_type": "ClassLabel"}}), {}),
        (metadata(["label"]), {}),
        ({b"huggingface": b"no JSON"}, {}),
        ({b"huggingface": b"[" * 100_000}, {}),
        ({b"huggingface": b"[]"}, {}),
        ({b"pandas": b"{}"}, {}),
        (None, {}),
    ],
)
def test_class_names_that_cannot_be_read_are_none(
    given: dict[bytes, bytes] | None, expected: dict[str, tuple[str, ...]]
) -> None:
    assert classes_in(given) == expected
