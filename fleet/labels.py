"""The label list of a local fleet: read from the data before any process starts, so that mistakes show early."""

from dataclasses import replace

from client.options import DataOptions
from client.rows import label_list
from client.shards import test_rows, training_rows
from fedcore.config import Config
from fedcore.errors import DataError


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


def with_labels(config: Config) -> Config:
    """Return the config with its labels written out, all rows having been read once.

    Raises DataError where rows carry a label outside [data] labels, or all carry the same one.
    """
    options = data_options(config)
    found = sorted({*label_list(training_rows(options)), *label_list(test_rows(options))})
    agreed = config.data.labels or tuple(found)
    foreign = sorted(set(found) - set(agreed))
    if foreign:
        raise DataError(f"{config.data.train} has rows labelled {foreign[:3]}, outside data.labels {list(agreed)}")
    if len(agreed) < 2:
        raise DataError(f"{config.data.train} has only the label {found}; a classifier needs at least two")
    return replace(config, data=replace(config.data, labels=agreed))
