"""Every task, by the name used in the configuration and on the wire; `TASKS.add` takes further ones."""

from fedcore.core.config.tables import Config
from fedcore.core.errors import ConfigError
from fedcore.core.open_table import OpenTable
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.generation import GENERATION
from fedcore.core.tasks.task import Task

TASKS: OpenTable[Task] = OpenTable("task", {task.name: task for task in (CLASSIFICATION, GENERATION)})


def task_named(name: str) -> Task:
    """Return the task `name`; an earlier version, which knew one task alone, names none. ConfigError if unknown."""
    if not name:
        return CLASSIFICATION
    if name not in TASKS:
        raise ConfigError(f"task.kind: expected one of {', '.join(TASKS)}; got {name!r}")
    return TASKS[name]


def task_of(config: Config) -> Task:
    """Return a run's task; raises ConfigError naming the known ones."""
    return task_named(config.task.kind)
