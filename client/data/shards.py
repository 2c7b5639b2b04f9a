"""The rows of one device, and of the evaluator, out of a run's data."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fedcore.client.data.rows import Rows, has_columns, read_rows, split_by_hash
from fedcore.client.options import DataOptions
from fedcore.core.config.tables import Config, DataConfig
from fedcore.core.data.device_rows import DeviceRows, FleetRows
from fedcore.core.data.partition import (
    Indices,
    Label,
    column_of,
    partition_keys,
    partition_seed,
    shard,
    shards_of,
)
from fedcore.core.errors import ConfigError, DataError, JoinRefused
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import AUTO, TASKS, task_named, task_of
from fedcore.core.tasks.task import Task
from fedcore.protos.values import Shard
from fedcore.storage.models.fetch import resolve

_UNNAMED = (DataConfig().text_columns, DataConfig().label)  # what [data] and `join` say where nobody names columns


def device_rows(options: DataOptions) -> Rows:
    """Training rows of one device; raises DataError where none is left for it."""
    if options.shard is None:
        return training_rows(options)
    index, count = options.shard
    wanted = Shard(index=index, count=count, partition=options.partition, alpha=options.alpha, seed=options.seed)
    return cut(training_rows(replace(options, by=column_of(wanted.partition))), wanted)


def given_rows(options: DataOptions, rows: Rows, given: Shard) -> Rows:
    """Return the shard that a coordinator gave, of a device's `rows`; read again where it is dealt by a column."""
    column = column_of(given.partition)
    return cut(training_rows(replace(options, by=column)) if column else rows, given)


def cut(rows: Rows, wanted: Shard) -> Rows:
    """Return one shard of all training rows; raises DataError where there are too few."""
    chosen = shard(
        partition_keys(wanted.partition, rows.texts, rows.labels, groups=rows.groups),
        wanted.index - 1,
        shards=wanted.count,
        partition=wanted.partition,
        alpha=wanted.alpha,
        seed=wanted.seed,
    )
    return rows.select(chosen)


def run_keys(config: Config, training: Rows) -> Sequence[Label]:
    """Return what a run's partition looks at, one value a row; raises DataError for a column that tells nothing."""
    return partition_keys(config.data.partition, training.texts, training.labels, groups=training.groups)


def dealt(config: Config, keys: Sequence[Label], devices: int) -> tuple[Indices, ...]:
    """Return the rows that every device of a fleet is dealt by `run_keys`; raises DataError where there are too few."""
    data = config.data
    shards = data.shards or devices
    if shards < devices:
        raise DataError(f"data.shards is {shards}, fewer than the {devices} devices; raise it or use 0")
    if len(keys) < shards:
        raise DataError(
            f"{data.train}: {len(keys)} training rows are too few for {shards} shards of a row or more; take fewer "
            "devices, more rows, or let devices share rows: simulation.rows_per_device"
        )
    seed = partition_seed(config.run.seed)
    return shards_of(keys, shards=shards, partition=data.partition, alpha=data.alpha, seed=seed)[:devices]


def dealt_rows(config: Config, training: Rows, held_back: Rows) -> FleetRows:
    """Return which rows `fedcore fleet` deals to every device; raises DataError where there are too few."""
    devices = list(config.devices())
    shards = dealt(config, run_keys(config, training), len(devices))
    named = [(name, kind.name, rows) for (name, kind), rows in zip(devices, shards, strict=True)]
    return fleet_rows(config, training, held_back, named)


def fleet_rows(
    config: Config, training: Rows, held_back: Rows, devices: Iterable[tuple[str, str, Indices]]
) -> FleetRows:
    """Return the rows of a run: of `devices` (name, class, rows), all training rows, and the number held back."""
    task = task_of(config)
    whole = _device_rows(task, "", "", training)
    return FleetRows(
        devices=tuple(_device_rows(task, name, kind, training.select(rows)) for name, kind, rows in devices),
        labels=whole.labels,
        held_back=len(held_back),
        unlabelled=whole.unlabelled,
        column=column_of(config.data.partition),
        values=whole.values,
    )


def _device_rows(task: Task, name: str, device_class: str, rows: Rows) -> DeviceRows:
    counts = dict(task.counts(rows.labels))
    return DeviceRows(
        device=name,
        device_class=device_class,
        labels=counts,
        unlabelled=0 if counts else len(rows),
        values=Counter(rows.groups),
    )


def shard_given(given: Shard | None) -> Shard:
    """Return the shard that the coordinator gave; raises JoinRefused where it gave none."""
    if given is None:
        raise JoinRefused(
            "no shard came for --shard auto: the coordinator, or an edge on the way to it, is of an older version; "
            "update it, or give --shard I/N"
        )
    return given


def check_rows_fit(task: Task, options: DataOptions) -> None:
    """Raise JoinRefused where rows were read for another kind of task than the run's."""
    if task.forms != task_named(options.task).forms:
        raise JoinRefused(
            f"the run's task is {task.name}; join with --task {task.name}, so that its rows are found, or, where that "
            f"is wrong, tell the coordinator, which reads no rows: --set task.kind={task_named(options.task).name}"
        )


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
    options = replace(options, by="")  # these are dealt to nobody
    if options.test is not None:
        return _read(options.test, options)
    rows = _read(options.train, options)
    _, test = split_by_hash(rows, options.test_fraction)
    if not len(test):
        raise DataError(
            f"{options.train}: no row is held back; {_repeated(rows, options)}name a [data] test file or a larger "
            "test_fraction"
        )
    return test


def replayed_texts(spec: str, task: Task) -> Rows | None:
    """Return the general texts that `spec` names, of its column `text`; None where it is empty.

    Raises DataError where there are none, and ConfigError under a task that does not write.
    """
    if not spec:
        return None
    if not task.forms:
        raise ConfigError(
            f"replay {spec}: general texts are for models that write, and the task is {task.name}; leave data.replay "
            "and --replay out"
        )
    return read_rows(resolve(spec, "data"), text=("text",), label="", written=True)


def _repeated(rows: Rows, options: DataOptions) -> str:
    """Return a doubt about the text column where most rows repeat the text of another; empty where they do not."""
    different = len(set(rows.texts))
    if 2 * different > len(rows):
        return ""
    columns = " and ".join(map(repr, options.text))
    return f"column {columns} has {different} different texts in {len(rows)} rows: is it the text column? Else "


def _read(spec: str, options: DataOptions) -> Rows:
    path, task = resolve(spec, "data"), task_named(options.task)
    if not task.forms:
        return read_rows(path, text=options.text, label=options.label, by=options.by)
    text, label = written_columns(path, task, options)
    return read_rows(path, text=(text,), label=label, by=options.by, written=True)


def with_task_found(options: DataOptions) -> DataOptions:
    """Return the options with the task that the columns are for, where they name none; errors as `task_of_columns`."""
    return options if options.task not in ("", AUTO) else replace(options, task=task_of_columns(options))


def task_of_columns(options: DataOptions) -> str:
    """Return the name of the task that data are for, by their columns, where nobody named any.

    Raises ConfigError or DataError where the data are not found.
    """
    path = resolve(options.train, "data")
    if (options.text, options.label) == _UNNAMED and not has_columns(path, (*options.text, options.label)):
        for task in TASKS.values():
            forms = (tuple(filter(None, form)) for form in task.forms)
            if any(has_columns(path, form) for form in forms if form != options.text):  # a text alone may be anything
                return task.name
    return CLASSIFICATION.name


def written_columns(path: str | Path, task: Task, options: DataOptions) -> tuple[str, str]:
    """Return the columns of text and answers under a task that writes: those named, else the first that are there.

    Raises DataError where none is named and the data have none of the usual ones, and for two text columns.
    """
    if len(options.text) != 1:
        raise DataError(f"rows of task {task.name} have one text column, data.text names {len(options.text)}")
    if (options.text, options.label) != _UNNAMED:
        return options.text[0], options.label
    for text, label in task.forms:
        if has_columns(path, (text, label) if label else (text,)):
            return text, label
    raise DataError(
        f"{path}: no columns of task {task.name} found; expected one of: {task.usual_columns}; or name yours in "
        'data.text and data.label (data.label = "" where no column holds answers)'
    )
