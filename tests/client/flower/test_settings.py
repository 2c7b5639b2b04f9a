"""What device a Flower node is: its own configuration first, the app's for what all nodes share."""

from pathlib import Path
from typing import Any

import pytest

from fedcore.client.flower.settings import NodeSettings, node_settings
from fedcore.client.options import DataOptions, DeviceLimits
from fedcore.core.errors import ConfigError
from tests.client.flower.conftest import context_of

SHARED: dict[str, Any] = {
    "model.path": "base",
    "data.train": "all.csv",
    "data.test_fraction": 0.25,
    "data.label": "kind",
    "run.seed": 5,
    "device-classes": "nano, nx",
}


def test_a_partition_is_a_node_with_its_part_of_the_apps_rows() -> None:
    node = {"partition-id": 3, "num-partitions": 8}
    assert node_settings(context_of(node, SHARED)) == NodeSettings(
        name="node-3",
        limits=DeviceLimits(device_class="nx"),
        model="base",
        data=DataOptions(
            train="all.csv",
            test=None,
            text=("text",),
            label="kind",
            test_fraction=0.25,
            shard=(4, 8),
            partition="dirichlet",
            alpha=1.0,
            seed=5,
            task="auto",
        ),
        state=None,
    )


def test_rows_are_read_for_the_runs_task_and_with_the_column_that_deals_them() -> None:
    node = {"partition-id": 0, "num-partitions": 2, "precision": "bfloat16"}
    shared = SHARED | {"data.partition": "by:lang", "task.kind": "generation"}
    settings = node_settings(context_of(node, shared))
    assert (settings.data.by, settings.data.task, settings.precision) == ("lang", "generation", "bfloat16")
    assert settings.under("regression:1.0:5.0").data.task == "regression"
    assert settings.under("").data.task == "classification"
    own = node_settings(context_of({"name": "cam", "data": "own.csv"}, shared))
    assert own.data.by == "" and own.precision == "", "its own rows are dealt to nobody"


def test_a_nodes_own_configuration_comes_first() -> None:
    node = {
        "name": "cam-1",
        "class": "agx",
        "data": "own.csv",
        "model": "copy",
        "state": "kept",
        "memory-mb": 512,
        "slowdown": 2.5,
        "device": "cpu",
        "partition-id": 0,
        "num-partitions": 4,
    }
    settings = node_settings(context_of(node, SHARED | {"data.test": "held.csv"}))
    assert (settings.name, settings.model, settings.state) == ("cam-1", "copy", Path("kept"))
    assert settings.device == "cpu"
    assert settings.limits == DeviceLimits(device_class="agx", memory_mb=512.0, slowdown=2.5)
    assert (settings.data.train, settings.data.test, settings.data.shard) == ("own.csv", "held.csv", None)


@pytest.mark.parametrize(
    ("part", "classes", "expected"),
    [(0, "nano,nx", "nano"), (1, "nano,nx", "nx"), (2, "nano,nx", "nano"), (5, "one", "one")],
)
def test_nodes_take_turns_at_the_apps_classes(part: int, classes: str, expected: str) -> None:
    node = {"partition-id": part, "num-partitions": 6}
    settings = node_settings(context_of(node, SHARED | {"device-classes": classes}))
    assert settings.limits.device_class == expected


def test_without_classes_a_node_is_of_the_default_class() -> None:
    settings = node_settings(context_of({"name": "cam"}, {"model.path": "base", "data.train": "all.csv"}))
    assert settings.limits == DeviceLimits(device_class="default") and settings.data.shard is None


def test_a_node_without_name_and_partition_is_told_how_to_get_one() -> None:
    with pytest.raises(ConfigError, match=r"a node needs a name: flower-supernode --node-config"):
        node_settings(context_of({"class": "nx"}, SHARED))
