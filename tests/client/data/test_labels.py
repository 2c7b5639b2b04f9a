import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.client.data.labels import data_options, labelled_rows, task_lines, with_task
from fedcore.core.config.tables import ClassConfig, Config, DataConfig, TaskConfig
from fedcore.core.errors import DataError


def config_of(folder: Path, train: list[str], test: list[str] | None = None, **data: object) -> Config:
    """A config over files with one row per label given."""
    paths = {}
    for name, labels in (("train", train), ("test", test)):
        if labels is not None:
            path = folder / f"{name}.csv"
            rows = [f"{name} row {number},{label}" for number, label in enumerate(labels)]
            path.write_text("\n".join(["text,label", *rows]) + "\n")
            paths[name] = str(path)
    return Config(data=DataConfig(**paths, **data), classes=(ClassConfig(name="agx"),))  # type: ignore[arg-type]


def test_labels_come_from_training_rows(tmp_path: Path) -> None:
    config = config_of(tmp_path, ["pos", "neg", "neutral"], ["neutral", "pos"])
    found, training, _ = labelled_rows(config)
    assert len(training) == 3
    assert found.data.labels == ("neg", "neutral", "pos")
    assert found.run == config.run and found.classes == config.classes


def test_a_label_of_the_test_file_alone_is_taken_for_another_spelling(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"test\.csv has labels that no row of .*train\.csv has: 'false' \(1 row\), 'true' \(1 row\), beside "
        r"'0' \(1 row\), '1' \(1 row\); spell them alike",
    ):
        labelled_rows(config_of(tmp_path, ["0", "1"], ["true", "false"]))
    found, _, _ = labelled_rows(config_of(tmp_path, ["pos", "neg"], ["rare"], labels=("pos", "neg", "rare")))
    assert found.data.labels == ("pos", "neg", "rare"), "unless it is listed"


def test_numbered_labels_are_ordered_by_number(tmp_path: Path) -> None:
    found, _, _ = labelled_rows(config_of(tmp_path, [str(number) for number in range(12)], ["3"]))
    assert found.data.labels == tuple(str(number) for number in range(12))


def test_a_label_list_given_stays_in_its_order(tmp_path: Path) -> None:
    found, _, _ = labelled_rows(config_of(tmp_path, ["a", "b"], ["a"], labels=("b", "a", "unseen")))
    assert found.data.labels == ("b", "a", "unseen")


@pytest.mark.parametrize(("train", "test", "source"), [(["a", "c"], ["a"], "train"), (["a"], ["b", "c"], "test")])
def test_a_row_outside_the_list_names_its_file(tmp_path: Path, train: list[str], test: list[str], source: str) -> None:
    with pytest.raises(
        DataError, match=rf"{source}\.csv: 1 row outside the agreed labels \[a, b\]: 'c' \(1 row\); drop"
    ):
        labelled_rows(config_of(tmp_path, train, test, labels=("a", "b")))


def test_one_label_is_no_task(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has only the label 'a'; a classifier needs at least two"):
        labelled_rows(config_of(tmp_path, ["a", "a"], ["a"]))


def test_without_a_test_file_rows_are_held_back(tmp_path: Path) -> None:
    found, training, _ = labelled_rows(config_of(tmp_path, ["a", "b"] * 40))
    assert found.data.labels == ("a", "b") and 0 < len(training) < 80
    with pytest.raises(DataError, match="no row is held back; name a"):
        labelled_rows(config_of(tmp_path, ["a", "b"] * 40, test_fraction=0.0))


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        labelled_rows(Config(data=DataConfig(train=str(tmp_path / "nowhere.csv"))))
    with pytest.raises(DataError, match="no column 'stars'"):
        labelled_rows(config_of(tmp_path, ["a", "b"], ["a"], label="stars"))


def test_options_are_the_data_table() -> None:
    options = data_options(Config(data=DataConfig(text=("a", "b"), alpha=0.5, test="t.csv")))
    assert (options.text, options.alpha, options.test, options.shard) == (("a", "b"), 0.5, "t.csv", None)
    assert data_options(Config()).test is None


def test_all_labels_outside_the_list_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        labelled_rows(config_of(tmp_path, ["a", "c", "d", "d", "b"], ["a"], labels=("a", "b")))
    assert str(error.value).endswith(
        "train.csv: 3 rows outside the agreed labels [a, b]: 'd' (2 rows), 'c' (1 row); drop these rows or add the "
        "labels to data.labels"
    )


def test_measured_numbers_are_no_labels_unless_they_are_listed(tmp_path: Path) -> None:
    numbers = [f"{number}.5" for number in range(40)]
    with pytest.raises(DataError, match=r"train\.csv: label column 'label' has 40 different numbers in 41 rows"):
        labelled_rows(config_of(tmp_path, numbers, ["0.5"]))
    found, _, _ = labelled_rows(config_of(tmp_path, numbers, ["0.5"], labels=tuple(numbers)))
    assert len(found.data.labels) == 40


@pytest.mark.parametrize(
    ("row", "named", "found"),
    [
        ({"prompt": "2 + 2", "response": "4"}, {}, "generation"),
        ({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}, {}, "generation"),
        ({"prompt": "2 + 2", "response": "4", "text": "x", "label": "a"}, {}, "classification"),
        ({"text": "x", "label": "a"}, {}, "classification"),
        ({"text": "x"}, {}, "classification"),
        ({"prompt": "2 + 2", "response": "4"}, {"text": "prompt", "label": "response"}, "classification"),
        ({"prompt": "2 + 2", "response": "4"}, {"labels": ("a", "b")}, "classification"),
    ],
)
def test_the_columns_tell_the_task_where_nobody_names_it(
    tmp_path: Path, row: dict[str, object], named: dict[str, object], found: str
) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    config = Config(data=DataConfig(train=str(tmp_path / "rows.jsonl"), **named))  # type: ignore[arg-type]
    told = with_task(config)
    assert told.task.kind == found
    assert bool(task_lines(config, told)) == (found == "generation")
    chosen = replace(config, task=TaskConfig(kind="regression"))
    assert with_task(chosen) == chosen and task_lines(chosen, chosen) == ()
