"""The label list of a whole fleet: read from the data before any process starts, so that mistakes show early."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedcore.client.data.label_doubts import target_doubts
from fedcore.client.data.ratings import rating
from fedcore.client.data.rows import Rows, check_labels, label_list, targets_of, told_labels
from fedcore.client.data.shards import task_of_columns, test_rows, training_rows
from fedcore.client.options import DataOptions
from fedcore.core.config.tables import Config
from fedcore.core.data.partition import BY_LABEL, column_of
from fedcore.core.errors import ConfigError, DataError
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import AUTO, task_of
from fedcore.core.tasks.task import Range, Task


def data_options(config: Config) -> DataOptions:
    """The [data] table as the clients understand it."""
    data = config.data
    return DataOptions(
        train=data.train,
        test=data.test or None,
        text=data.text_columns,
        label=data.label,
        test_fraction=data.test_fraction,
        by=column_of(data.partition),
        partition=data.partition,
        alpha=data.alpha,
        task=config.task.kind,
    )


def labelled_rows(config: Config) -> tuple[Config, Rows, Rows]:
    """Return the config with its task, labels or range of targets written out, and all training and held-back rows.

    Raises DataError where rows carry labels outside [data] labels, all carry the same one, or, without a list, the
    labels are measured numbers or the test file has labels that nothing could be trained for; without labels,
    ConfigError for keys that ask for them, DataError for bad targets.
    """
    config = with_task(config)
    options, task = data_options(config), task_of(config)
    if not task.labelled:
        return _unlabelled_rows(config, task)
    training, test = (read(options).under(config.data.labels) for read in (training_rows, test_rows))
    if config.data.test and not config.data.labels:
        _check_spelling(training, test)
    whole = Rows(texts=training.texts + test.texts, labels=training.labels + test.labels, source=training.source)
    found = label_list(whole)
    agreed = config.data.labels or found
    for rows in (training, test) if config.data.test else (whole,):  # as the files have them
        check_labels(rows, agreed, remedy="drop these rows or add the labels to data.labels")
    _check_classes(config, whole.labels)
    if len(agreed) < 2:
        raise DataError(f"{config.data.train} has only the label {found[0]!r}; a classifier needs at least two")
    return replace(config, data=replace(config.data, labels=agreed)), training, test


def with_task(config: Config) -> Config:
    """Return the config with the task that its rows are for, where it leaves that open.

    Columns of prompts and answers, or of chats, are for a model that writes, unless there are a text and a label.
    """
    if config.task.kind != AUTO:
        return config
    options = data_options(config)
    found = CLASSIFICATION.name if config.data.labels or not options.train else task_of_columns(options)
    return replace(config, task=replace(config.task, kind=found))


def task_lines(asked: Config, found: Config) -> tuple[str, ...]:
    """Return what is said of a task that the rows decided; nothing of the usual one."""
    kind = found.task.kind
    if kind in (asked.task.kind, CLASSIFICATION.name):
        return ()
    return (f"task: {kind}, by the columns of the rows; task.kind names another",)


def row_warnings(config: Config, training: Rows, test: Rows) -> tuple[str, ...]:
    """Return what is doubtful in the target column of a fleet's rows."""
    return target_doubts(task_of(config), (*training.labels, *test.labels), config.data.label)


def _unlabelled_rows(config: Config, task: Task) -> tuple[Config, Rows, Rows]:
    if config.data.labels:
        raise ConfigError(f"data.labels: rows of task {task.name} have no labels; leave the key out")
    if config.data.partition in BY_LABEL:
        raise ConfigError(
            f"data.partition {config.data.partition!r} deals rows by label, and rows of task {task.name} have none; "
            'take "iid", "length", "by:COLUMN" or "dirichlet:COLUMN"'
        )
    options = data_options(config)
    training, test = training_rows(options), test_rows(options)
    targets_of(test, (), task)
    return _with_range(config, task, training), training, test


def _with_range(config: Config, task: Task, training: Rows) -> Config:
    """Return the config with the range of its training targets, where the task has one and the config leaves it out."""
    targets = targets_of(training, (), task).astype(np.float64)
    if task.over is None:
        return config
    if targets.min() == targets.max():
        raise DataError(
            f"{training.source}: every row to train on has the target {training.labels[0]}; there is nothing to learn: "
            "is data.label right?"
        )
    if task.range is not None:
        return config
    found = Range.of(targets)
    return replace(config, task=replace(config.task, low=found.low, high=found.high))


def _check_spelling(training: Rows, test: Rows) -> None:
    """Refuse labels of the test file alone: most are spelt otherwise in the training file, and never could be right."""
    known = set(training.labels)
    strange = Counter(label for label in test.labels if label not in known)
    if strange:
        raise DataError(
            f"{test.source} has labels that no row of {training.source} has: {told_labels(strange)}, beside "
            f"{told_labels(Counter(training.labels))}; spell them alike, or list all labels in data.labels"
        )


def _check_classes(config: Config, labels: Sequence[str]) -> None:
    """Refuse measured numbers that nobody listed as labels."""
    measured = None if config.data.labels else rating(labels, config.data.label)
    if measured is not None:
        raise DataError(f"{config.data.train}: {measured}")
