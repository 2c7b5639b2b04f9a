"""The label list of a whole fleet: read from the data before any process starts, so that mistakes show early."""

from dataclasses import replace

from fedcore.client.data.rows import Rows, label_list
from fedcore.client.data.shards import test_rows, training_rows
from fedcore.client.options import DataOptions
from fedcore.core.config.tables import Config
from fedcore.core.errors import DataError


def data_options(config: Config) -> DataOptions:
    """The [data] table as the clients understand it."""
    data = config.data
    return DataOptions(
        train=data.train,
        test=data.test or None,
        text=data.text_columns,
        label=data.label,
        test_fraction=data.test_fraction,
        partition=data.partition,
        alpha=data.alpha,
    )


def labelled_rows(config: Config) -> tuple[Config, Rows, Rows]:
    """Return the config with its labels written out, and all training and held-back rows.

    Raises DataError where rows carry a label outside [data] labels, all carry the same one, or, without a list, the
    test file has labels that nothing could be trained for.
    """
    options = data_options(config)
    training, test = (read(options).under(config.data.labels) for read in (training_rows, test_rows))
    if config.data.test and not config.data.labels:
        _check_spelling(training, test)
    found = label_list(Rows(texts=training.texts + test.texts, labels=training.labels + test.labels))
    agreed = config.data.labels or found
    for rows in (training, test):
        foreign = sorted(set(rows.labels) - set(agreed))
        if foreign:
            raise DataError(
                f"{rows.source} has rows labelled {foreign[:3]}, outside data.labels {list(agreed)}; "
                "drop these rows or add the labels"
            )
    if len(agreed) < 2:
        raise DataError(f"{config.data.train} has only the label {found[0]!r}; a classifier needs at least two")
    return replace(config, data=replace(config.data, labels=agreed)), training, test


def _check_spelling(training: Rows, test: Rows) -> None:
    """Refuse labels of the test file alone: most are spelt otherwise in the training file, and never could be right."""
    strange = sorted(set(test.labels) - set(training.labels))
    if strange:
        raise DataError(
            f"{test.source} has labels that no row of {training.source} has: {strange[:3]} beside "
            f"{sorted(set(training.labels))[:3]}; spell them alike, or list all labels in data.labels"
        )
