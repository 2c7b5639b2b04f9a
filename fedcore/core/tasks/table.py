"""Every task, by the name used in the configuration and on the wire; `TASKS.add` takes further ones."""

from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError
from fedcore.core.open_table import OpenTable
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.generation import GENERATION
from fedcore.core.tasks.regression import REGRESSION
from fedcore.core.tasks.task import Range, Task

TASKS: OpenTable[Task] = OpenTable("task", {task.name: task for task in (CLASSIFICATION, GENERATION, REGRESSION)})


AUTO = "auto"  # of `task.kind`: whoever reads the rows finds the task; it is classification until then


def task_named(name: str) -> Task:
    """Return the task `name`, or that of a `Task.spec`; an earlier version, which knew one task alone, names none.

    Raises ConfigError for an unknown one.
    """
    if name in ("", AUTO):
        return CLASSIFICATION
    kind, *ends = name.split(":")
    if kind not in TASKS:
        raise ConfigError(f"task.kind: expected one of {', '.join(TASKS)}; got {name!r}")
    if not ends:
        return TASKS[kind]
    try:
        low, high = map(float, ends)
    except ValueError:
        raise ConfigError(f"task {name!r}: expected a range as in {kind}:1:5") from None
    return _over(TASKS[kind], Range(low=low, high=high))


def task_of(config: Config) -> Task:
    """Return a run's task, over its range where the configuration has one; raises ConfigError naming the known ones."""
    task, low, high = task_named(config.task.kind), config.task.low, config.task.high
    return task if low is None or high is None else _over(task, Range(low=low, high=high))


def _over(task: Task, measured: Range) -> Task:
    if task.over is None:
        raise ConfigError(f"task.low and task.high: targets of task {task.name} have no range; leave both out")
    return task.over(measured)
