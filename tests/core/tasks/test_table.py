"""The table of tasks."""

from dataclasses import replace

import pytest

from fedcore.core.config.keys import keys_of
from fedcore.core.config.tables import Config, TaskConfig
from fedcore.core.errors import ConfigError
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import AUTO, TASKS, task_named, task_of


def test_editors_offer_every_task() -> None:
    (rule,) = keys_of(TaskConfig)["kind"].rules
    assert rule.schema["anyOf"][0]["enum"] == [AUTO, *TASKS]
    assert all(name == task.name for name, task in TASKS.items())


def test_an_earlier_version_names_no_task_and_means_classification() -> None:
    assert (
        task_named("") is CLASSIFICATION and task_of(Config()) is CLASSIFICATION and task_named(AUTO) is CLASSIFICATION
    )


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    known = "classification, generation, regression"
    with pytest.raises(ConfigError, match=rf"task\.kind: expected one of {known}; got 'poetry'"):
        task_of(replace(Config(), task=TaskConfig(kind="poetry")))
