import math
from collections.abc import Callable
from typing import Any

import pytest

from fedcore.core.config.tables import (
    ClassConfig,
    Config,
    CoordinatorConfig,
    DataConfig,
    EvaluationConfig,
    FleetConfig,
    ModelConfig,
    RunConfig,
    StrategyConfig,
    TrainingConfig,
)
from fedcore.core.errors import ConfigError

NAN, INF = math.nan, math.inf

# (table, its key, values that stand just inside the range, values just outside, how the message names the rule)
RANGES: list[tuple[Callable[..., Any], str, list[Any], list[Any], str]] = [
    (
        RunConfig,
        "name",
        ["a", "x-1", "a" * 63],
        ["", "A", "a b", "a" * 64, "../x", "a\n"],
        "run.name '.*': expected 1-63",
    ),
    (RunConfig, "seed", [0, 2**63 - 1], [-1, 2**63], r"run.seed must be in \[0, 2\*\*63\)"),
    (RunConfig, "rounds", [1, 2**31 - 1], [0, -1, 2**31], "run.rounds must be at least 1 and below"),
    (ModelConfig, "max_length", [2, 8192], [1, 0, 2**31], "model.max_length must be at least 2"),
    (ModelConfig, "head", ["auto", "mean", "last", "stock"], ["cls", ""], "model.head: expected one of auto, mean"),
    (ModelConfig, "dtype", ["float32", "bfloat16"], ["float16"], "model.dtype: expected one of float32, bfloat16"),
    (
        DataConfig,
        "partition",
        ["dirichlet", "iid", "by:lang", "dirichlet:a column", "by:a:b"],
        ["random", "by:", "by", "iid:lang", "length:lang"],
        "data.partition: expected one of dirichlet, one-label, length, iid, by:COLUMN, dirichlet:COLUMN; got",
    ),
    (DataConfig, "alpha", [1e-9, 1e9], [0.0, -1.0, NAN, INF], "data.alpha must be above 0"),
    (DataConfig, "test_fraction", [0.0, 0.9], [-0.1, 0.91, NAN], r"data.test_fraction must be in \[0.0, 0.9\]"),
    (DataConfig, "text", ["t", ("t",), ("a", "b")], [(), ("a", "b", "c")], "data.text: expected one column or a pair"),
    (DataConfig, "labels", [(), ("a", "b")], [("a",), ("a", "a")], "data.labels: expected at least two different"),
    (DataConfig, "shards", [0, 5], [-1], "data.shards must be at least 0"),
    (StrategyConfig, "target_sparsity", [0.0, 0.999], [1.0, 1.2, -0.1, NAN], r"target_sparsity must be in \[0, 1\)"),
    (StrategyConfig, "ranks", [(1,), (4, 8)], [(0,), (-2, 4), (2**31,)], "strategy.ranks must be at least 1"),
    (StrategyConfig, "cohort", [0, 3], [-1], "strategy.cohort must be at least 0"),
    (StrategyConfig, "warmup_rounds", [1, 9], [-1], "strategy.warmup_rounds must be at least 0"),
    (StrategyConfig, "recovery_rounds", [0, 9], [-1], "strategy.recovery_rounds must be at least 0"),
    (StrategyConfig, "reward_weights", [(0.0,) * 4], [(1.0,) * 3, (1.0,) * 5], "expected four weights, got [35]"),
    (StrategyConfig, "order", ["fleet", "class", "device"], ["all"], "order: expected one of fleet, class, device"),
    (StrategyConfig, "reward_times", ["measured", "model"], ["clock"], "reward_times: expected one of measured, model"),
    (StrategyConfig, "discount", [1e-9, 1.0], [0.0, 1.1, NAN], r"strategy.discount must be in \(0, 1\]"),
    (StrategyConfig, "exploration", [0.0, 5.0], [-0.1, NAN, INF], "strategy.exploration must be at least 0"),
    (StrategyConfig, "min_width", [0.001, 1.0], [0.0, 1.1, NAN], r"strategy.min_width must be in \[0.001, 1.0\]"),
    (StrategyConfig, "server_lr", [1e-9, 10.0], [0.0, -1.0, NAN, INF], "strategy.server_lr must be above 0"),
    (TrainingConfig, "local_steps", [1, 99], [0, 2**31], "training.local_steps must be at least 1"),
    (TrainingConfig, "batch_size", [1, 99], [0, 2**31], "training.batch_size must be at least 1"),
    (TrainingConfig, "learning_rate", [1e-9, 1.0], [0.0, -1.0, NAN, INF], "training.learning_rate must be above 0"),
    (TrainingConfig, "lora_scale", [1e-9, 1.0], [0.0, -1.0, NAN, INF], "training.lora_scale must be above 0"),
    (TrainingConfig, "weight_decay", [0.0, 1.0], [-0.1, NAN], "training.weight_decay must be at least 0"),
    (
        TrainingConfig,
        "importance",
        ["taylor", "lora-taylor", "flap"],
        ["luck"],
        "expected one of lora-taylor, taylor, magn",
    ),
    (CoordinatorConfig, "lease_s", [0.1], [0.0, -1.0, NAN, INF], "coordinator.lease_s must be above 0"),
    (CoordinatorConfig, "round_deadline_s", [0.1], [0.0, NAN], "coordinator.round_deadline_s must be above 0"),
    (CoordinatorConfig, "join_deadline_s", [0.1], [0.0, NAN], "coordinator.join_deadline_s must be above 0"),
    (CoordinatorConfig, "quorum", [0.01, 1.0], [0.0, 1.01, NAN], r"coordinator.quorum must be in \(0, 1\]"),
    (CoordinatorConfig, "min_devices", [1], [0], "coordinator.min_devices must be at least 1"),
    (CoordinatorConfig, "max_void_rounds", [1], [0], "coordinator.max_void_rounds must be at least 1"),
    (
        CoordinatorConfig,
        "listen",
        ["127.0.0.1:0", "0.0.0.0:65535", "[::1]:8443", "edge.example:443"],
        ["127.0.0.1", ":80", "host:", "host:-1", "host:65536", "host:http", ""],
        "coordinator.listen: expected HOST:PORT",
    ),
    (
        FleetConfig,
        "edges",
        [(), (1,), (2,), (2, 2), (2, 4, 4)],
        [(0,), (2, 0), (-1,), (2, 1), (2, 4, 3)],
        "fleet.edges",
    ),
    (EvaluationConfig, "rows_per_round", [0, 500], [-1], "evaluation.rows_per_round must be at least 0"),
    (EvaluationConfig, "deadline_s", [0.1], [0.0, NAN], "evaluation.deadline_s must be above 0"),
]
GOOD = [(table, key, value) for table, key, good, _, _ in RANGES for value in good]
BAD = [(table, key, value, message) for table, key, _, bad, message in RANGES for value in bad]


@pytest.mark.parametrize(("table", "key", "value"), GOOD)
def test_the_edges_of_a_range_belong_to_it(table: Callable[..., Any], key: str, value: Any) -> None:
    assert getattr(table(**{key: value}), key) == value


@pytest.mark.parametrize(("table", "key", "value", "message"), BAD)
def test_values_out_of_range_are_refused_by_name(table: Callable[..., Any], key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        table(**{key: value})


def test_class_names_differ() -> None:
    with pytest.raises(ConfigError, match=r"fleet.class names must differ, got \['a', 'a'\]"):
        Config(classes=(ClassConfig(name="a"), ClassConfig(name="a")))


def test_a_class_without_its_own_target_has_the_strategys() -> None:
    config = Config(classes=(ClassConfig(name="own", target_sparsity=0.0), ClassConfig(name="shared")))
    assert config.target_sparsity("own") == 0.0
    assert config.target_sparsity("shared") == config.target_sparsity("elsewhere") == 0.5


def test_devices_are_not_called_as_edges_are() -> None:
    classes = (ClassConfig(name="edge-2", count=2),)
    assert Config(classes=classes, fleet=FleetConfig(edges=(1,))).classes == classes
    with pytest.raises(ConfigError, match=r"fleet.class edge-2: its devices would be called as edges are; rename it"):
        Config(classes=classes, fleet=FleetConfig(edges=(1, 2)))


def test_an_edge_without_devices_is_refused() -> None:
    devices = (ClassConfig(name="a", count=2), ClassConfig(name="b"))
    assert Config(classes=devices, fleet=FleetConfig(edges=(2, 3))).fleet.edges == (2, 3)
    with pytest.raises(ConfigError, match=r"fleet.edges: 4 edges in the lowest tier, and 3 devices"):
        Config(classes=devices, fleet=FleetConfig(edges=(2, 4)))


def test_text_columns_are_always_a_tuple() -> None:
    assert DataConfig(text="a").text_columns == ("a",)
    assert DataConfig(text=("a", "b")).text_columns == ("a", "b")
