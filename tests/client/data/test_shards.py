"""Rows of a device and of the evaluator out of one file."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.client.data.labels import labelled_rows
from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import (
    check_rows_fit,
    dealt_rows,
    device_rows,
    given_rows,
    test_rows,
    training_rows,
    with_task_found,
)
from fedcore.client.options import DataOptions
from fedcore.core.config.toml import parse_config
from fedcore.core.data.partition import partition_seed
from fedcore.core.errors import DataError, JoinRefused
from fedcore.core.tasks.table import task_named
from fedcore.protos.values import Shard

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


@pytest.mark.parametrize("unnamed", ["", "auto"])
def test_a_client_finds_the_task_by_its_columns(unnamed: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "2 + 2", "response": "4"}\n')
    found = with_task_found(options(tmp_path / "rows.jsonl", task=unnamed))
    assert found.task == "generation" and with_task_found(found) is found
    assert with_task_found(options(csv(tmp_path / "rows.csv", 2), task=unnamed)).task == "classification"
    check_rows_fit(task_named("generation"), found)
    with pytest.raises(JoinRefused, match=r"tell the coordinator, which reads no rows: --set task\.kind=generation"):
        check_rows_fit(task_named("regression"), found)


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


SPOKEN = ("en", "en", "en", "de", "de", "fr")


def spoken(path: Path, rows: int = 120) -> Path:
    lines = [f"text number {i},{'ab'[i % 2]},{SPOKEN[i % 6]}" for i in range(rows)]
    path.write_text("\n".join(["text,label,lang", *lines]))
    return path


def test_rows_are_dealt_by_a_column_and_devices_take_what_the_run_deals(tmp_path: Path) -> None:
    file = spoken(tmp_path / "rows.csv")
    config = parse_config(
        f"[run]\nseed = 3\n[data]\ntrain = '{file}'\npartition = 'by:lang'\n[[fleet.class]]\nname = 'nx'\ncount = 4"
    )
    config, training, test = labelled_rows(config)
    assert set(training.groups) == {"en", "de", "fr"} and test.groups == ()
    fleet = dealt_rows(config, training, test)
    assert fleet.column == "lang" and sum(fleet.values.values()) == len(training)
    assert [len(device.values) for device in fleet.devices] == [1, 1, 1, 1]
    chosen = options(file, partition="by:lang", seed=partition_seed(3))
    for index, device in enumerate(fleet.devices, start=1):
        rows = device_rows(replace(chosen, shard=(index, 4)))
        assert Counter(rows.groups) == device.values
        given = Shard(index=index, count=4, partition="by:lang", alpha=1.0, seed=partition_seed(3))
        assert given_rows(chosen, training_rows(chosen), given) == rows, "read without the column before the join"


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    chosen = options(spoken(tmp_path / "rows.csv"), partition="by:language", shard=(1, 2))
    with pytest.raises(DataError, match=r"no column 'language'; did you mean 'lang'\? columns: text, label, lang"):
        device_rows(chosen)
    assert len(device_rows(replace(chosen, shard=None))) > 0, "rows of one's own are dealt by nothing"


def test_an_empty_value_is_a_fault_of_its_row(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label,lang\na,x,en\nb,y,\nc,x,de\n")
    with pytest.raises(DataError, match="line 3: column 'lang' is empty; fill it or drop the row"):
        device_rows(options(file, partition="by:lang", shard=(1, 2)))


def test_rows_may_be_dealt_by_the_label_column_or_a_text(tmp_path: Path) -> None:
    file = spoken(tmp_path / "rows.csv")
    assert set(device_rows(options(file, partition="by:label", shard=(1, 2))).labels) in ({"a"}, {"b"})
    with pytest.raises(DataError, match="column 'text' has another value in every row"):
        device_rows(options(file, partition="by:text", shard=(1, 2)))
