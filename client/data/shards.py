"""The rows of one device, and of the evaluator, out of a run's data."""

from fedcore.client.data.rows import Rows, read_rows, split_by_hash
from fedcore.client.options import DataOptions
from fedcore.core.data.partition import partition_keys, shard
from fedcore.core.errors import DataError, JoinRefused
from fedcore.protos.values import Shard
from fedcore.storage.models.fetch import resolve


def device_rows(options: DataOptions) -> Rows:
    """Training rows of one device; raises DataError where none is left for it."""
    rows = training_rows(options)
    if options.shard is None:
        return rows
    index, count = options.shard
    wanted = Shard(index=index, count=count, partition=options.partition, alpha=options.alpha, seed=options.seed)
    return cut(rows, wanted)


def cut(rows: Rows, wanted: Shard) -> Rows:
    """Return one shard of all training rows; raises DataError where there are too few."""
    chosen = shard(
        partition_keys(wanted.partition, rows.texts, rows.labels),
        wanted.index - 1,
        shards=wanted.count,
        partition=wanted.partition,
        alpha=wanted.alpha,
        seed=wanted.seed,
    )
    return rows.select(chosen)


def shard_given(given: Shard | None) -> Shard:
    """Return the shard that the coordinator gave; raises JoinRefused where it gave none."""
    if given is None:
        raise JoinRefused(
            "no shard came for --shard auto: the coordinator, or an edge on the way to it, is of an older version; "
            "update it, or give --shard I/N"
        )
    return given


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
