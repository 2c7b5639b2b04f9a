"""The run configuration: strict TOML, every key known, every value in range.

Tables: [run] [model] [data] [strategy] [training] [coordinator] [evaluation] and [[fleet.class]]. `parse_config` checks
names (suggesting the nearest known one), types and ranges; `to_toml` writes every default out.
"""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fedcore.errors import ConfigError
from fedcore.profile import check_name

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """[run]"""

    name: str = "run"
    seed: int = 0
    rounds: int = 10

    def __post_init__(self) -> None:
        check_name(self.name, "run.name")
        _at_least("run.rounds", self.rounds, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """[model]: `path` is a local folder, a hub id, or `fetch:NAME` of a model that `fedcore fetch` knows."""

    path: str = "fetch:minilm"
    max_length: int = 64  # tokens
    head: str = "auto"  # "mean" (pooled, BERT type), "last" (Llama type), "stock" (the checkpoint's own)
    dtype: str = "float32"  # of the frozen base weights: "float32" or "bfloat16"

    def __post_init__(self) -> None:
        _at_least("model.max_length", self.max_length, 2)
        _one_of("model.head", self.head, ("auto", "mean", "last", "stock"))
        _one_of("model.dtype", self.dtype, ("float32", "bfloat16"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """[data]: files or hub ids; `test` empty holds back `test_fraction` of `train` by text hash."""

    train: str = "fetch:movies"
    test: str = ""
    text: str | tuple[str, ...] = "text"  # one column, or two for pair tasks
    label: str = "label"
    labels: tuple[str, ...] = ()  # empty: from the data (fleet) or the first device that joins (serve)
    test_fraction: float = 0.2
    partition: str = "dirichlet"
    alpha: float = 1.0  # Dirichlet concentration; small is more skewed
    shards: int = 0  # 0: one per device

    def __post_init__(self) -> None:
        _one_of("data.partition", self.partition, ("dirichlet", "iid"))
        _between("data.test_fraction", self.test_fraction, 0.0, 0.9)
        if self.alpha <= 0:
            raise ConfigError(f"data.alpha must be above 0, got {self.alpha}")
        if isinstance(self.text, tuple) and len(self.text) not in (1, 2):
            raise ConfigError(f"data.text: expected one column or a pair, got {len(self.text)} columns")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            raise ConfigError(f"data.labels: expected at least two different labels, got {list(self.labels)}")
        _at_least("data.shards", self.shards, 0)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The one or two text columns."""
        return self.text if isinstance(self.text, tuple) else (self.text,)


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig:
    """[strategy]"""

    name: str = "fedspine"
    target_sparsity: float = 0.5  # a class may set its own
    ranks: tuple[int, ...] = (4, 8, 16)
    bandit: str = "s-ucb"  # "s-ucb", "fixed" or "random"
    aggregator: str = "factor-mean"  # or "delta-stack"
    server_lr: float = 1.0  # step along the aggregated increment
    cohort: int = 0  # devices per round; 0 is all
    warmup_rounds: int = 2  # before the first cut
    recovery_rounds: int = 2  # after the last cut
    reward_weights: tuple[float, ...] = (0.5, 0.2, 0.1, 0.2)  # loss drop, progress, adapter importance, lateness
    share_posterior: bool = True  # devices of a class share what the bandit learned
    reward_times: str = "measured"  # or "model": times from the cost model, so that runs repeat
    discount: float = 0.95
    exploration: float = 0.2
    min_width: float = 0.1  # leaves of the bandit's tree are not split below this share of an axis

    def __post_init__(self) -> None:
        _sparsity("strategy.target_sparsity", self.target_sparsity)
        if not self.ranks:
            raise ConfigError("strategy.ranks: expected at least one rank")
        for rank in self.ranks:
            _at_least("strategy.ranks", rank, 1)
        if list(self.ranks) != sorted(set(self.ranks)):
            raise ConfigError(f"strategy.ranks: expected ascending, different ranks, got {list(self.ranks)}")
        for key in ("cohort", "warmup_rounds", "recovery_rounds"):
            _at_least(f"strategy.{key}", getattr(self, key), 0)
        if self.warmup_rounds < 1 and self.target_sparsity > 0:
            raise ConfigError(
                "strategy.warmup_rounds must be at least 1: importance needs a round before the first cut"
            )
        if len(self.reward_weights) != 4 or min(self.reward_weights) < 0:
            raise ConfigError("strategy.reward_weights: expected four weights of 0 or more")
        _one_of("strategy.reward_times", self.reward_times, ("measured", "model"))
        if not 0 < self.discount <= 1:
            raise ConfigError(f"strategy.discount must be in (0, 1], got {self.discount}")
        _at_least("strategy.exploration", self.exploration, 0)
        _between("strategy.min_width", self.min_width, 0.001, 1.0)
        if self.server_lr <= 0:
            raise ConfigError(f"strategy.server_lr must be above 0, got {self.server_lr}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """[training]: local training on a device."""

    local_steps: int = 10
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    lora_scale: float = 2.0
    targets: tuple[str, ...] = ()  # linear layers with adapters; empty is every prunable one
    importance: str = "taylor"
    keep_optimizer: bool = True
    codec: str = "bf16+zstd"

    def __post_init__(self) -> None:
        _at_least("training.local_steps", self.local_steps, 1)
        _at_least("training.batch_size", self.batch_size, 1)
        for key in ("learning_rate", "lora_scale"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"training.{key} must be above 0, got {getattr(self, key)}")
        _at_least("training.weight_decay", self.weight_decay, 0)
        _one_of("training.importance", self.importance, ("taylor", "lora-taylor"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """[coordinator]"""

    listen: str = "127.0.0.1:0"  # port 0 picks a free one
    lease_s: float = 30.0
    round_deadline_s: float = 120.0
    quorum: float = 0.5  # share of the cohort whose updates close a round at its deadline
    min_devices: int = 1  # start once so many have joined
    join_deadline_s: float = 120.0  # give up when fewer than min_devices came
    max_void_rounds: int = 3

    def __post_init__(self) -> None:
        for key in ("lease_s", "round_deadline_s", "join_deadline_s"):
            if getattr(self, key) <= 0:
                raise ConfigError(f"coordinator.{key} must be above 0 seconds, got {getattr(self, key)}")
        if not 0 < self.quorum <= 1:
            raise ConfigError(f"coordinator.quorum must be in (0, 1], got {self.quorum}")
        _at_least("coordinator.min_devices", self.min_devices, 1)
        _at_least("coordinator.max_void_rounds", self.max_void_rounds, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """[evaluation]"""

    rows_per_round: int = 500  # test rows after every round; all of them at the end; 0 evaluates at the end only
    batch_size: int = 32
    deadline_s: float = 600.0  # how long the end of a run waits for the evaluator without progress

    def __post_init__(self) -> None:
        _at_least("evaluation.rows_per_round", self.rows_per_round, 0)
        _at_least("evaluation.batch_size", self.batch_size, 1)
        if self.deadline_s <= 0:
            raise ConfigError(f"evaluation.deadline_s must be above 0 seconds, got {self.deadline_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassConfig:
    """[[fleet.class]]: devices of one kind. A limit of 0 means not limited."""

    name: str
    count: int = 1
    slowdown: float = 1.0  # emulated: a device sleeps (slowdown - 1) x its own CPU time
    memory_mb: float = 0.0  # limit on peak live tensor memory of a training step
    uplink_mbps: float = 0.0
    downlink_mbps: float = 0.0
    target_sparsity: float | None = None  # None: strategy.target_sparsity

    def __post_init__(self) -> None:
        check_name(self.name, "fleet.class name")
        _at_least(f"fleet.class {self.name}: count", self.count, 1)
        _at_least(f"fleet.class {self.name}: slowdown", self.slowdown, 1)
        for key in ("memory_mb", "uplink_mbps", "downlink_mbps"):
            _at_least(f"fleet.class {self.name}: {key}", getattr(self, key), 0)
        if self.target_sparsity is not None:
            _sparsity(f"fleet.class {self.name}: target_sparsity", self.target_sparsity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, resolved."""

    run: RunConfig = field(default_factory=RunConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    strategy: StrategyConfig = field(default_factory=StrategyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    coordinator: CoordinatorConfig = field(default_factory=CoordinatorConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    classes: tuple[ClassConfig, ...] = ()

    def __post_init__(self) -> None:
        names = [each.name for each in self.classes]
        if len(set(names)) != len(names):
            raise ConfigError(f"fleet.class names must differ, got {names}")

    def target_sparsity(self, device_class: str) -> float:
        """The sparsity devices of `device_class` shall reach."""
        for each in self.classes:
            if each.name == device_class and each.target_sparsity is not None:
                return each.target_sparsity
        return self.strategy.target_sparsity


TABLES = ("run", "model", "data", "strategy", "training", "coordinator", "evaluation")


def parse_config(text: str, overrides: Sequence[str] = ()) -> Config:
    """Parse TOML text with `table.key=value` overrides; raises ConfigError naming the key and the remedy."""
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise ConfigError(f"not valid TOML: {cause}") from None
    for override in overrides:
        _apply(raw, override)
    fleet = raw.pop("fleet", {})
    _known("", raw, (*TABLES, "fleet"))
    if not isinstance(fleet, dict):
        raise ConfigError("fleet: expected [[fleet.class]] tables")
    _known("fleet.", fleet, ("class",))
    hints = get_type_hints(Config)
    tables = {name: _build(hints[name], _table(name, raw.get(name, {})), f"{name}.") for name in TABLES}
    rows = fleet.get("class", [])
    if not isinstance(rows, list):
        raise ConfigError("fleet.class: expected [[fleet.class]] with double brackets")
    classes = tuple(_build(ClassConfig, _table("fleet.class", row), "fleet.class.") for row in rows)
    return Config(**tables, classes=classes)


def to_toml(config: Config) -> str:
    """Write every value out, so that `parse_config` gives an equal config."""
    lines: list[str] = []
    for name in TABLES:
        lines += [f"[{name}]", *_items(getattr(config, name)), ""]
    for each in config.classes:
        lines += ["[[fleet.class]]", *_items(each), ""]
    return "\n".join(lines)


def _items(table: Any) -> list[str]:
    values = ((item.name, getattr(table, item.name)) for item in dataclasses.fields(table))
    return [f"{name} = {_literal(value)}" for name, value in values if value is not None]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def _apply(raw: dict[str, Any], override: str) -> None:
    path, separator, value = override.partition("=")
    table, dot, key = path.strip().partition(".")
    if not separator or not dot or not key:
        raise ConfigError(f"--set {override!r}: expected table.key=value, for example run.rounds=5")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    if not isinstance(raw.setdefault(table, {}), dict):
        raise ConfigError(f"--set {override!r}: {table} is not a table")
    raw[table][key] = parsed


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: expected a table, got {value!r}")
    return value


def _known(prefix: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown config key {prefix}{key}; {hint}")


def _build(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(kind)
    fields = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    _known(prefix, table, fields)
    values = {key: _coerce(value, hints[key], prefix + key) for key, value in table.items()}
    if "name" in fields and kind is ClassConfig and "name" not in values:
        raise ConfigError(f"{prefix}name is missing: every [[fleet.class]] needs a name")
    return kind(**values)


def _coerce(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, UnionType):
        for option in get_args(kind):
            try:
                return _coerce(value, option, where)
            except ConfigError:
                continue
        raise ConfigError(f"{where}: expected {kind}, got {value!r}")
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        return tuple(_coerce(item, get_args(kind)[0], where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is type(None) or not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")
    return value


def _at_least(where: str, value: float, low: float) -> None:
    if value < low:
        raise ConfigError(f"{where} must be at least {low}, got {value}")


def _between(where: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{where} must be in [{low}, {high}], got {value}")


def _sparsity(where: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{where} must be in [0, 1), got {value}")


def _one_of(where: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{where}: expected one of {', '.join(known)}; got {value!r}")
