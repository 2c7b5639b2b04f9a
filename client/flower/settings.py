"""What device a Flower node is: the node's own configuration, and the app's for what all nodes share."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import Context

from fedcore.client.options import DataOptions, DeviceLimits
from fedcore.core.accelerators import AUTO
from fedcore.core.config.toml import parse_config
from fedcore.core.data.partition import column_of
from fedcore.core.errors import ConfigError
from fedcore.core.tasks.table import task_named
from fedcore.protos.records import overrides

Value = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """One node. `state` None keeps what lasts between messages in Flower's Context."""

    name: str
    limits: DeviceLimits
    model: str
    data: DataOptions
    state: Path | None = None
    device: str = AUTO  # where it trains, see fedcore.core.accelerators
    precision: str = ""  # in which it trains, see fedcore.core.precision; empty: as the run says

    def under(self, task: str) -> "NodeSettings":
        """Return the settings of a node whose rows are read for a run's task, whatever the app's configuration says."""
        return replace(self, data=replace(self.data, task=task_named(task).name))


def node_settings(context: Context) -> NodeSettings:
    """Return the settings of a node.

    Node configuration: `name` (default node-I for `partition-id` I), `class`, `data` (own rows; without it the node
    takes its part of the app's data.train), `replay` (default: the app's data.replay), `model`, `state`, `device`,
    `precision`, `memory-mb`, `slowdown`. Without `class`, nodes take turns at the app's `device-classes`. Raises
    ConfigError for a node with neither name nor partition.
    """
    node, shared = context.node_config, context.run_config
    config = parse_config("", overrides(shared))
    part = node.get("partition-id")
    deals = "data" not in node and part is not None
    if part is None and "name" not in node:
        raise ConfigError("a node needs a name: flower-supernode --node-config \"name='cam-1' data='rows.csv'\"")
    return NodeSettings(
        name=str(node.get("name", f"node-{part}")),
        limits=DeviceLimits(
            device_class=str(node.get("class", _class_in_turn(shared, part))),
            memory_mb=float(node.get("memory-mb", 0.0)),
            slowdown=float(node.get("slowdown", 1.0)),
        ),
        model=str(node.get("model", config.model.path)),
        data=DataOptions(
            train=str(node.get("data", config.data.train)),
            test=config.data.test or None,
            text=config.data.text_columns,
            label=config.data.label,
            test_fraction=config.data.test_fraction,
            by=column_of(config.data.partition) if deals else "",
            shard=(int(part or 0) + 1, int(node["num-partitions"])) if deals else None,
            partition=config.data.partition,
            alpha=config.data.alpha,
            seed=config.run.seed,
            replay=str(node.get("replay", config.data.replay)),
            task=config.task.kind,
        ),
        state=Path(str(node["state"])) if "state" in node else None,
        device=str(node.get("device", AUTO)),
        precision=str(node.get("precision", "")),
    )


def _class_in_turn(shared: Mapping[str, Value], part: Value | None) -> str:
    classes = [name.strip() for name in str(shared.get("device-classes", "default")).split(",")]
    return classes[int(part or 0) % len(classes)]
