"""The rows of one device, and of the evaluator, out of a run's data."""

from client.options import DataOptions
from client.rows import Rows, read_rows, split_by_hash
from fedcore.errors import DataError
from fedcore.partition import shard
from storage.fetch import resolve


def device_rows(options: DataOptions) -> Rows:
    """Training rows of one device; raises DataError where none is left for it."""
    rows = training_rows(options)
    if options.shard is None:
        return rows
    index, count = options.shard
    chosen = shard(
        rows.labels,
        index - 1,
        shards=count,
        partition=options.partition,
        alpha=options.alpha,
        seed=options.seed,
    )
    return rows.select(chosen)


def training_rows(options: DataOptions) -> Rows:
    """All training rows: without what is held back, where there is no test file."""
    rows = _read(options.train, options)
    if options.test is not None or not options.test_fraction:
        return rows
    train, _ = split_by_hash(rows, options.test_fraction)
    if not len(train):
        raise DataError(f"{options.train}: no row is left for training after holding back {options.test_fraction:.0%}")
    return train


def test_rows(options: DataOptions) -> Rows:
    """Held-back rows; raises DataError where there are none."""
    if options.test is not None:
        return _read(options.test, options)
    _, test = split_by_hash(_read(options.train, options), options.test_fraction)
    if not len(test):
        raise DataError(f"{options.train}: no row is held back; name a [data] test file or a larger test_fraction")
    return test


def _read(spec: str, options: DataOptions) -> Rows:
    return read_rows(resolve(spec, "data"), text=options.text, label=options.label)
