"""Rows of a device and of the evaluator out of one file."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import device_rows, test_rows, training_rows
from fedcore.client.options import DataOptions
from fedcore.core.errors import DataError

test_rows.__test__ = False  # type: ignore[attr-defined]  # a function of ours, not a test


def csv(path: Path, rows: int, labels: str = "ab") -> Path:
    path.write_text("text,label\n" + "".join(f"text number {i},{labels[i % len(labels)]}\n" for i in range(rows)))
    return path


def options(train: Path, **changes: object) -> DataOptions:
    base = DataOptions(train=str(train), test=None, text=("text",), label="label", test_fraction=0.2, seed=5)
    return replace(base, **changes)  # type: ignore[arg-type]


def texts(rows: Rows) -> Counter[str]:
    return Counter(text for (text,) in rows.texts)


def test_training_and_held_back_rows_are_all_rows_and_share_none(tmp_path: Path) -> None:
    chosen = options(csv(tmp_path / "rows.csv", 200))
    train, test = training_rows(chosen), test_rows(chosen)
    assert len(train) + len(test) == 200 and not set(texts(train)) & set(texts(test))
    assert 20 <= len(test) <= 60


@pytest.mark.parametrize("partition", ["dirichlet", "iid"])
def test_the_shards_of_all_devices_are_the_training_rows(partition: str, tmp_path: Path) -> None:
    chosen = options(csv(tmp_path / "rows.csv", 150), partition=partition, alpha=0.3)
    shards = [device_rows(replace(chosen, shard=(index, 5))) for index in range(1, 6)]
    assert all(len(rows) for rows in shards)
    assert sum((texts(rows) for rows in shards), Counter[str]()) == texts(training_rows(chosen))


def test_a_device_without_a_shard_takes_every_training_row(tmp_path: Path) -> None:
    chosen = options(csv(tmp_path / "rows.csv", 30), test_fraction=0.0)
    assert len(device_rows(chosen)) == 30


def test_one_row_and_one_class_are_enough(tmp_path: Path) -> None:
    rows = device_rows(options(csv(tmp_path / "rows.csv", 1, "a"), test_fraction=0.0))
    assert (len(rows), rows.labels) == (1, ("a",))


def test_a_test_file_leaves_every_row_for_training(tmp_path: Path) -> None:
    chosen = options(csv(tmp_path / "rows.csv", 40), test=str(csv(tmp_path / "test.csv", 7)))
    assert (len(training_rows(chosen)), len(test_rows(chosen))) == (40, 7)


def test_nothing_held_back_or_nothing_left_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row is held back; name a \[data\] test file"):
        test_rows(options(csv(tmp_path / "rows.csv", 5), test_fraction=0.0))
    one = csv(tmp_path / "one.csv", 1)
    chosen = options(one, test_fraction=0.9)
    try:
        assert len(training_rows(chosen)) == 1
    except DataError as error:
        assert "no row is left for training" in str(error)


def test_more_shards_than_rows_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        device_rows(options(csv(tmp_path / "rows.csv", 3), test_fraction=0.0, shard=(5, 5)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.csv"):
        device_rows(options(tmp_path / "absent.csv"))


def test_a_text_column_of_a_few_values_is_doubted_where_nothing_is_held_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("label,text\n" + "".join(f"text number {i},{('pos', 'neg')[i % 2]}\n" for i in range(80)))
    with pytest.raises(DataError) as error:
        test_rows(options(path))
    assert str(error.value) == (
        f"{path}: no row is held back; column 'text' has 2 different texts in 80 rows: is it the text column? Else "
        "name a [data] test file or a larger test_fraction"
    )
