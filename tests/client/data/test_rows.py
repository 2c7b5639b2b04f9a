import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.client.data.rows import Rows, label_ids, label_list, read_rows, split_by_hash, told_labels
from fedcore.core.errors import DataError

TEXTS = ["good film", 'a "quoted", comma', "two\nlines", "ünïcode €"]
LABELS = ["pos", "neg", "pos", "neg"]


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _read(path: Path, text: tuple[str, ...] = ("text",), label: str = "label") -> Rows:
    return read_rows(str(path), text=text, label=label)


def test_csv_with_quotes_commas_and_newlines(tmp_path: Path) -> None:
    content = 'text,label\ngood film,pos\n"a ""quoted"", comma",neg\n"two\nlines",pos\nünïcode €,neg\n'
    rows = _read(_file(tmp_path, "a.csv", content))
    assert rows.texts == tuple((text,) for text in TEXTS)
    assert rows.labels == tuple(LABELS)
    assert len(rows) == 4


def test_csv_with_byte_order_mark_windows_lines_and_blank_lines(tmp_path: Path) -> None:
    rows = _read(_file(tmp_path, "a.csv", b"\xef\xbb\xbftext,label\r\na,0\r\n\r\nb,1\r\n"))
    assert rows.texts == (("a",), ("b",)) and rows.labels == ("0", "1")


def test_tsv_takes_quotes_as_they_are(tmp_path: Path) -> None:
    rows = _read(_file(tmp_path, "a.tsv", 'id\ttext\tlabel\n1\t"an open quote\tpos\n2\tplain\tneg\r\n'))
    assert rows.texts == (('"an open quote',), ("plain",)) and rows.labels == ("pos", "neg")


def test_json_lines_with_all_label_types(tmp_path: Path) -> None:
    values: list[Any] = [0, 1.0, True, False, "x", 2.5, " y "]
    content = "\n".join(json.dumps({"text": "t", "label": value}) for value in values)
    assert _read(_file(tmp_path, "a.jsonl", content)).labels == ("0", "1", "1", "0", "x", "2.5", "y")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_file_without_types_has_whole_numbers_however_they_are_spelt(name: str, tmp_path: Path) -> None:
    mark = "," if name.endswith("csv") else "\t"
    spelt = ["0", "1.0", "+2.", "-0.00", "2.5", "false", "1.0.0", " 3.0 "]
    content = "\n".join(mark.join(row) for row in [("text", "label"), *(("t", each) for each in spelt)])
    assert _read(_file(tmp_path, name, content)).labels == ("0", "1", "2", "0", "2.5", "false", "1.0.0", "3")
    assert _read(_file(tmp_path, "a.jsonl", '{"text": "t", "label": "1.0"}')).labels == ("1.0",), "said to be text"


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    text = "word " * 40_000
    assert _read(_file(tmp_path, "a.csv", f"text,label\n{text},b\n")).texts == ((text,),)


def test_parquet_in_several_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": TEXTS, "more": [1, 2, 3, 4], "label": [0, 1, 0, 1]}), path, row_group_size=2)
    rows = _read(path)
    assert rows.texts == tuple((text,) for text in TEXTS) and rows.labels == ("0", "1", "0", "1")


def test_pairs_of_texts_keep_their_order(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", "b,a,y\nsecond,first,1\n")
    assert _read(path, ("a", "b"), "y").texts == (("first", "second"),)


@pytest.mark.parametrize("count", [0, 3])
def test_one_or_two_texts(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match="one text column, or two"):
        _read(tmp_path, ("a",) * count)


BAD = [
    ("a.csv", "text,labels\na,b\n", r"no column 'label'; did you mean 'labels'\? columns: text, labels"),
    ("a.csv", "x,y\na,b\n", r"no column 'text'; columns: x, y"),
    ("a.csv", "", r"a\.csv: the file is empty"),
    ("a.csv", "\n", r"no column 'text'; columns: none"),
    ("a.csv", "text,label\n", r"no data row"),
    ("a.csv", "text,label\na,b\na\n", r"line 3: 1 cells, the header has 2"),
    (
        "a.csv",
        "text,label\na,b,c\n",
        r"line 2: 3 cells, the header has 2; put quotation marks around a text that holds ','",
    ),
    (
        "a.csv",
        'text,label\na,b\n"never closed,b\n',
        r"line 3 is not valid CSV: unexpected end of data; a quotation mark is never closed",
    ),
    ("a.csv", "text,label\na,b\n  ,b\n", r"line 3: column 'text' is empty"),
    ("a.csv", "text,label\na,\n", r"line 2: label column 'label' is empty"),
    ("a.csv", b"text,label\nok,a\nna\xefve,b\n", r"line 3 is not UTF-8"),
    ("a.tsv", "text\tlabel\na\n", r"line 2: 1 cells, the header has 2; a text must not hold a tab"),
    ("a.jsonl", '{"text": "a"', r"row 1 is not valid JSON"),
    ("a.jsonl", '{"text":"a","label":1}\n[1]\n', r"line 2: expected a JSON object, got list"),
    ("a.jsonl", '{"text":"a","label":1}\n{"text":"a"}\n', r"line 2: no 'label' in the object; add it or drop the row"),
    ("a.jsonl", '{"text": 5, "label": 1}', r"line 1: column 'text' holds int, expected text"),
    ("a.jsonl", '{"text": null, "label": 1}', r"line 1: column 'text' is empty"),
    ("a.jsonl", '{"text": "a", "label": null}', r"line 1: label column 'label' is empty"),
    ("a.jsonl", '{"text": "a", "label": NaN}', r"line 1: label column 'label' is empty"),
    ("a.jsonl", '{"text": "a", "label": [1]}', r"holds list, expected text or a number"),
    ("a.csv", "text,text,label\na,b,c\n", r"2 columns are called 'text'; rename all but one"),
    (
        "a.jsonl",
        '{"text": "a\\ud83d", "label": 1}',
        r"line 1: column 'text' holds half of a surrogate pair; take it out or drop the row",
    ),
    ("a.jsonl", '{"text": "a", "label": "\\ude00"}', r"line 1: column 'label' holds half of a surrogate pair"),
    ("a.parquet", "not parquet", r"not a readable Parquet file"),
    ("a.xlsx", "x", r"cannot read \.xlsx; expected \.csv, \.tsv"),
    ("table", "x", r"cannot read a file without suffix"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_files_name_what_is_wrong(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = _file(tmp_path, name, content)
    with pytest.raises(DataError, match=message) as caught:
        _read(path)
    assert str(path) in str(caught.value)


def test_a_missing_parquet_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"sentence": ["a"], "label": [0]}), path)
    with pytest.raises(DataError, match="no column 'text'; columns: sentence, label"):
        _read(path)


@pytest.mark.parametrize("name", ["missing.csv", "no/such/folder/x.parquet", "not a hub id!", "a/b/c"])
def test_what_is_neither_file_nor_hub_id_is_refused_without_a_network(name: str) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_rows(name, text=("text",), label="label")


def test_a_folder_is_read_by_the_library(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    _file(folder, "train.csv", "text,label\na,0\nb,1\n")
    rows = read_rows(folder, text=("text",), label="label", cache=tmp_path / "cache")
    assert rows.texts == (("a",), ("b",)) and rows.labels == ("0", "1")
    with pytest.raises(DataError, match="no column 'label_'; did you mean 'label'"):
        read_rows(folder, text=("text",), label="label_", cache=tmp_path / "cache")


def test_an_unreadable_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder cannot be read"):
        read_rows(tmp_path, text=("text",), label="label", cache=tmp_path / "cache")


def _rows(texts: list[str]) -> Rows:
    return Rows(texts=tuple((text,) for text in texts), labels=tuple("x" for _ in texts))


@settings(max_examples=60)
@given(st.lists(st.text(max_size=8), max_size=30), st.floats(0, 0.99), st.randoms(use_true_random=False))
def test_a_split_depends_on_texts_alone(texts: list[str], fraction: float, random: Any) -> None:
    train, test = split_by_hash(_rows(texts), fraction)
    assert sorted(train.texts + test.texts) == sorted((text,) for text in texts)
    assert not set(train.texts) & set(test.texts)
    shuffled = random.sample(texts, len(texts))
    again_train, again_test = split_by_hash(_rows(shuffled), fraction)
    assert (sorted(again_train.texts), sorted(again_test.texts)) == (sorted(train.texts), sorted(test.texts))


def test_a_split_is_fixed_for_all_time() -> None:
    _, test = split_by_hash(_rows([f"row {index}" for index in range(12)]), 0.25)
    assert test.texts == (("row 2",), ("row 5",), ("row 7",))


def test_a_split_has_about_the_asked_share_and_grows_with_it() -> None:
    rows = _rows([str(index) for index in range(5000)])
    small, large = split_by_hash(rows, 0.2)[1], split_by_hash(rows, 0.3)[1]
    assert 900 < len(small) < 1100
    assert set(small.texts) < set(large.texts)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(DataError, match=r"in \[0, 1\)"):
        split_by_hash(_rows(["a"]), fraction)


def test_label_ids_follow_the_agreed_list() -> None:
    rows = Rows(texts=(("a",), ("b",), ("c",)), labels=("pos", "neg", "pos"))
    ids = label_ids(rows, ("neg", "pos", "never"))
    assert ids.dtype == np.int64 and ids.tolist() == [1, 0, 1]


def test_strange_labels_are_named_with_their_rows() -> None:
    rows = Rows(texts=(("a",), ("b",), ("c",)), labels=("pos", "meh", "meh"), source="s.csv")
    with pytest.raises(DataError, match=r"s\.csv: 2 rows outside the agreed labels \[neg, pos\]: 'meh' \(2 rows\)"):
        label_ids(rows, ("neg", "pos"))


def test_label_list_orders_numbers_by_value() -> None:
    rows = _rows([""] * 5)
    assert label_list(Rows(texts=rows.texts, labels=("10", "9", "b", "-1", "a"))) == ("-1", "9", "10", "a", "b")


def test_select_keeps_the_order_asked_for() -> None:
    rows = Rows(texts=(("a",), ("b",), ("c",)), labels=("0", "1", "2"), source="s")
    assert rows.select(np.array([2, 0])) == Rows(texts=(("c",), ("a",)), labels=("2", "0"), source="s")


def test_rows_must_pair_up() -> None:
    with pytest.raises(DataError, match="2 texts but 1 labels"):
        Rows(texts=(("a",), ("b",)), labels=("x",))


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), st.integers(0, 9)),
        min_size=1,
        max_size=8,
    )
)
def test_csv_and_json_lines_give_back_any_text(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    import csv

    kept = [(text, label) for text, label in rows if text.strip()] or [("x", 0)]
    folder = tmp_path_factory.mktemp("any")
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *kept])
    (folder / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": text, "label": label}) for text, label in kept), encoding="utf-8"
    )
    for name in ("a.csv", "a.jsonl"):
        assert _read(folder / name).texts == tuple((text,) for text, _ in kept)


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = _file(tmp_path, "a.csv", 'text,label\na,x\n,y\n\n"b\nb",\n,\nc,d,e\n')
    with pytest.raises(DataError) as error:
        _read(path)
    assert str(error.value) == (
        "rows that cannot be used:\n"
        f"  {path}: 2 rows (lines 3, 7): column 'text' is empty; fill it or drop the row\n"
        f"  {path}: 2 rows (lines 5, 7): label column 'label' is empty; fill it or drop the row\n"
        f"  {path}: line 8: 3 cells, the header has 2; put quotation marks around a text that holds ','"
    )


def test_many_labels_are_told_by_their_rows() -> None:
    assert told_labels({f"l{number:02}": number + 1 for number in range(12)}) == (
        "'l11' (12 rows), 'l10' (11 rows), 'l09' (10 rows), 'l08' (9 rows), 'l07' (8 rows), 'l06' (7 rows), "
        "'l05' (6 rows), 'l04' (5 rows), 'l03' (4 rows), 'l02' (3 rows) and 2 more"
    )
