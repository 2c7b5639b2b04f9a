"""One reader behind all doors: a table reads the same as a file, in a folder and as a data set with a split."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcore.client.data.json_file import EXPECTED
from fedcore.client.data.rows import label_list, read_rows
from fedcore.core.errors import DataError

Values = Sequence[Any]
Outcome = tuple[Any, Any] | str


def _csv(path: Path, texts: Values, labels: Values) -> None:
    quoted = (
        [f'"{str(each).replace(chr(34), chr(34) * 2)}"' for each in row] for row in zip(texts, labels, strict=True)
    )
    path.write_text("text,label\n" + "".join(",".join(row) + "\n" for row in quoted), encoding="utf-8")


def _tsv(path: Path, texts: Values, labels: Values) -> None:
    rows = (f"{text}\t{label}\n" for text, label in zip(texts, labels, strict=True))
    path.write_text("\ufefftext\tlabel\n" + "".join(rows), encoding="utf-8")


def _packed(path: Path, texts: Values, labels: Values) -> None:
    plain = path.with_suffix("")
    _csv(plain, texts, labels)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()


def _jsonl(path: Path, texts: Values, labels: Values) -> None:
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")


def _json(path: Path, texts: Values, labels: Values) -> None:
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")


def _table(texts: Values, labels: Values) -> pa.Table:
    return pa.table({"text": list(texts), "label": list(labels)})


def _parquet(path: Path, texts: Values, labels: Values) -> None:
    pq.write_table(_table(texts, labels), path, row_group_size=2)


def _arrow(path: Path, texts: Values, labels: Values) -> None:
    table = _table(texts, labels)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def _arrow_stream(path: Path, texts: Values, labels: Values) -> None:
    table = _table(texts, labels)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


FORMATS: dict[str, Callable[[Path, Values, Values], None]] = {
    "a.csv": _csv,
    "a.tsv": _tsv,
    "a.csv.gz": _packed,
    "a.jsonl": _jsonl,
    "a.ndjson": _jsonl,
    "a.json": _json,
    "a.parquet": _parquet,
    "a.arrow": _arrow,
    "stream.arrow": _arrow_stream,
}

# Label texts that readers which guess types merge, drop or turn into something else, and texts of the same kind.
TEXT_LABELS = [
    ("NA", "None"),
    ("true", "false"),
    ("01", "1"),
    ("nan", "inf"),
    ("2020-01-01", "2020-01-02T00:00:00"),
    ("1e5", "100000"),
    ("-", "+"),
    ("größe", "süß"),
    ("e\u0301", "\xe9"),
    ("0x10", "1_000"),
    ("#N/A", "n/a"),
    (" pos ", "neg"),
    ("1" * 400, "2"),
]
TEXTS = ("123", "null", "true", "2020-01-01", "=1+1", "a  b", "one\u2028line", "#x")
# Labels of formats with types, and what they are called.
TYPED = [
    ((0, 1), ("0", "1")),
    ((True, False), ("1", "0")),
    ((1.0, 2.5), ("1", "2.5")),
    ((-1, 10), ("-1", "10")),
]
PAGE = """---
dataset_info:
  features:
  - name: text
    dtype: string
  - name: label
    dtype:
      class_label:
        names:
          '0': neg
          '1': pos
---
"""
UNTYPED = ("a.csv", "a.tsv", "a.csv.gz")


def _outcome(path: Path | str, cache: Path) -> Outcome:
    try:
        rows = read_rows(path, text=("text",), label="label", cache=cache)
    except DataError as error:
        return f"refused {str(error).split(': ', 1)[1]}"
    return tuple(text for (text,) in rows.texts), rows.labels


def _doors(
    folder: Path, name: str, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> dict[str, Outcome]:
    """What each door gives for one file."""
    split = name.replace("a.", "train.").replace("stream.", "train.")
    for place in ("file", "set", "deep/data"):
        (folder / place).mkdir(parents=True)
    write(folder / "file" / name)
    write(folder / "set" / split)
    write(folder / "deep" / "data" / split.replace("train.", "train-00000-of-00001."))
    monkeypatch.chdir(folder)
    cache = folder / "cache"
    return {
        "file": _outcome(folder / "file" / name, cache),
        "folder": _outcome(folder / "set", cache),
        "folder of shards": _outcome(folder / "deep", cache),
        "data set with a split": _outcome("set:train", cache),
    }


@pytest.mark.parametrize("labels", TEXT_LABELS, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_text_reads_the_same_through_every_door(
    name: str, labels: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [labels[row % 2] for row in range(len(TEXTS))]
    doors = _doors(tmp_path, name, lambda path: FORMATS[name](path, TEXTS, given), monkeypatch)
    expected = TEXTS, tuple(label.strip() for label in given)
    assert doors == dict.fromkeys(doors, expected)


@pytest.mark.parametrize(("labels", "called"), TYPED, ids=str)
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in UNTYPED])
def test_types_read_the_same_through_every_door(
    name: str, labels: tuple[Any, Any], called: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = _doors(tmp_path, name, lambda path: FORMATS[name](path, ("a", "b"), labels), monkeypatch)
    assert doors == dict.fromkeys(doors, (("a", "b"), called))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("text", "label"), [("", "pos"), ("good", ""), ("  ", "pos")])
def test_what_one_door_refuses_every_door_does(
    name: str, text: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = _doors(tmp_path, name, lambda path: FORMATS[name](path, ("x", text), ("pos", label)), monkeypatch)
    column = "label column 'label'" if not label else "column 'text'"
    where = "line 3" if name in (*UNTYPED, "a.jsonl", "a.ndjson") else "row 2"
    assert doors == dict.fromkeys(doors, f"refused {where}: {column} is empty; fill it or drop the row")


def test_files_of_a_folder_are_read_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    _csv(folder / "train-0.csv", ("a", "b"), ("01", "1"))
    _csv(folder / "train-1.csv", ("c",), ("true",))
    _csv(folder / "test.csv", ("d",), ("other",))
    assert _outcome(folder, tmp_path / "cache") == (("a", "b", "c"), ("01", "1", "true"))
    (folder / "train-1.csv").write_text("text,label\nc\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train-1\.csv: line 2: 1 cells"):
        read_rows(folder, text=("text",), label="label", cache=tmp_path / "cache")


def test_a_separator_that_the_data_set_names_is_taken(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.csv").write_text("text;label\n1,5;01\n2,5;NA\n", encoding="utf-8")
    page = '---\nconfigs:\n- config_name: default\n  data_files: train.csv\n  sep: ";"\n---\n'
    (folder / "README.md").write_text(page, encoding="utf-8")
    assert _outcome(folder, tmp_path / "cache") == (("1,5", "2,5"), ("01", "NA"))


@pytest.mark.parametrize("name", FORMATS)
def test_classes_that_the_data_set_names_are_labels(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    FORMATS[name](folder / name.replace("a.", "train.").replace("stream.", "train."), ("a", "b", "c"), (1, 0, 1))
    (folder / "README.md").write_text(PAGE, encoding="utf-8")
    rows = read_rows(folder, text=("text",), label="label", cache=tmp_path / "cache")
    assert rows.labels == ("pos", "neg", "pos") and rows.class_numbers == (("neg", 0), ("pos", 1))


def _saved() -> Any:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    return datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)


def test_class_names_of_a_parquet_file_are_labels(tmp_path: Path) -> None:
    _saved().to_parquet(tmp_path / "a.parquet")
    assert _outcome(tmp_path / "a.parquet", tmp_path) == (("a", "b", "c"), ("pos", "neg", "pos"))


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    import datasets

    _saved().with_format("numpy").save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": _saved(), "test": _saved().select([0])}).save_to_disk(tmp_path / "many")
    datasets.DatasetDict({"validation": _saved()}).save_to_disk(tmp_path / "lone")
    datasets.DatasetDict({"a": _saved(), "b": _saved()}).save_to_disk(tmp_path / "neither")
    whole = (("a", "b", "c"), ("pos", "neg", "pos"))
    for name, expected in {"one": whole, "many": whole, "lone": whole, "many/test": (("a",), ("pos",))}.items():
        assert _outcome(tmp_path / name, tmp_path / "cache") == expected, name
    with pytest.raises(DataError, match=r"no split 'train' among a, b; give the folder of one, .*neither/a$"):
        read_rows(tmp_path / "neither", text=("text",), label="label")


def test_rows_without_a_class_are_told(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    rows.to_parquet(tmp_path / "a.parquet")
    assert _outcome(tmp_path / "a.parquet", tmp_path) == (
        "refused row 2: label column 'label' is empty; fill it or drop the row"
    )


def test_a_run_whose_labels_are_class_numbers_goes_on_with_them(tmp_path: Path) -> None:
    _saved().to_parquet(tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet", text=("text",), label="label")
    assert label_list(rows.under(("0", "1"))) == ("0", "1")
    assert rows.under(("neg", "pos")) is rows
    assert rows.under(()) is rows
    assert rows.under(("0", "1")).select([1]).labels == ("0",)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_nested_too_deep_is_refused_through_every_door(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = '{"text": ' + "[" * 100_000 + "]" * 100_000 + ', "label": "neg"}'
    good = '{"text": "good", "label": "pos"}'
    content = f"[{good}, {deep}]" if name == "a.json" else f"{good}\n{deep}\n"
    doors = _doors(tmp_path, name, lambda path: path.write_text(content, encoding="utf-8"), monkeypatch)
    where = "not valid JSON" if name == "a.json" else "row 2 is not valid JSON"
    assert doors == dict.fromkeys(doors, f"refused {where}: nested too deep{EXPECTED}")


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("a.csv", "a.tsv")])
def test_a_spoilt_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMATS[name](path, TEXTS * 200, ["pos"] * len(TEXTS) * 200)
    data = path.read_bytes()
    for spoilt in (data[: len(data) // 2], b"\x1f\x8b" + data[2:], bytes(64), data[:-8] + bytes(8)):
        path.write_bytes(spoilt)
        outcome = _outcome(path, tmp_path / "cache")
        assert isinstance(outcome, tuple) or outcome.startswith("refused"), spoilt[:8]


def test_a_column_twice_is_refused_in_every_format_that_can_have_it(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], names=["text", "label", "label"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.csv").write_text("text,label,label\na,x,y\n", encoding="utf-8")
    (tmp_path / "a.tsv").write_text("text\tlabel\tlabel\na\tx\ty\n", encoding="utf-8")
    for suffix in ("parquet", "arrow", "csv", "tsv"):
        assert _outcome(tmp_path / f"a.{suffix}", tmp_path) == (
            "refused 2 columns are called 'label'; rename all but one"
        ), suffix
