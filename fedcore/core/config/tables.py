"""The run configuration as values: one class per table, every default, every range.

Tables: [run] [model] [data] [strategy] [training] [coordinator] [evaluation] [simulation] [fleet] and [[fleet.class]].
Every class raises ConfigError, naming the key, for a value out of range. `fedcore.core.config.toml` reads and writes
them as TOML.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fedcore.core.config.address import check_address
from fedcore.core.contract.profile import check_name, check_network
from fedcore.core.errors import ConfigError
from fedcore.core.pruning.criteria import CRITERIA

SEED_LIMIT = 2**63  # seeds travel as unsigned 64-bit numbers and fit a signed one everywhere
COUNT_LIMIT = 2**31  # counts travel as unsigned 32-bit numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """[run]"""

    name: str = "run"
    seed: int = 0
    rounds: int = 10

    def __post_init__(self) -> None:
        check_name(self.name, "run.name")
        _count("run.rounds", self.rounds, 1)
        if not 0 <= self.seed < SEED_LIMIT:
            raise ConfigError(f"run.seed must be in [0, 2**63), got {self.seed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """[model]: `path` is a local folder, a hub id, or `fetch:NAME` of a model that `fedcore fetch` knows."""

    path: str = "fetch:minilm"
    max_length: int = 64  # tokens
    head: str = "auto"  # "mean" (pooled, BERT type), "last" (Llama type), "stock" (the checkpoint's own)
    dtype: str = "float32"  # of the frozen base weights: "float32" or "bfloat16"

    def __post_init__(self) -> None:
        _count("model.max_length", self.max_length, 2)
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
    partition: str = "dirichlet"  # one of fedcore.core.data.partition.PARTITIONS, which needs numpy
    alpha: float = 1.0  # Dirichlet concentration; small is more skewed
    shards: int = 0  # 0: one per device

    def __post_init__(self) -> None:
        _one_of("data.partition", self.partition, ("dirichlet", "length", "iid"))
        _between("data.test_fraction", self.test_fraction, 0.0, 0.9)
        _above("data.alpha", self.alpha, 0)
        if isinstance(self.text, tuple) and len(self.text) not in (1, 2):
            raise ConfigError(f"data.text: expected one column or a pair, got {len(self.text)} columns")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            raise ConfigError(f"data.labels: expected at least two different labels, got {list(self.labels)}")
        _count("data.shards", self.shards, 0)

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
    bandit: str = "linucb"  # one of fedcore.core.bandit.table
    aggregator: str = "factor-mean"  # or another of fedcore.core.aggregation.table
    server_lr: float = 1.0  # step along the aggregated increment
    server_optimizer: str = "sgd"  # that step alone; or "nesterov": with momentum, kept on the coordinator
    server_momentum: float = 0.9  # under "nesterov"
    factors: str = "both"  # of the adapter, that devices train; or "b" alone, or "alternating": b, then a
    cohort: int = 0  # devices per round; 0 is all
    weights: str | None = None  # in the mean: "examples", or "effective" under the fleet's labels; None: the strategy's
    order: str = "fleet"  # whose removal order: one of the "fleet", one per "class", or one per "device"
    warmup_rounds: int = 2  # before the first cut
    recovery_rounds: int = 2  # after the last cut
    reward_weights: tuple[float, ...] = (0.5, 0.2, 0.1, 0.2)  # loss drop, progress, adapter importance, lateness
    share_posterior: bool = True  # devices of a class share what the bandit learned
    reward_times: str = "measured"  # or "model": times from the cost model, so that runs repeat
    discount: float = 0.98
    exploration: float | None = None  # width of the confidence bound; None: what suits the bandit
    min_width: float = 0.1  # leaves of the bandit's tree are not split below this share of an axis
    local_steps_choices: tuple[int, ...] = ()  # local steps as a part of the arm; empty: all take training.local_steps
    context: bool = False  # tell the bandit each device's learned speeds; needs a pace
    pace: str = "filter"  # a common time budget per round, from learned speeds: "filter", "lagrange", or "off"

    def __post_init__(self) -> None:
        _sparsity("strategy.target_sparsity", self.target_sparsity)
        if not self.ranks:
            raise ConfigError("strategy.ranks: expected at least one rank")
        for rank in self.ranks:
            _count("strategy.ranks", rank, 1)
        if list(self.ranks) != sorted(set(self.ranks)):
            raise ConfigError(f"strategy.ranks: expected ascending, different ranks, got {list(self.ranks)}")
        for steps in self.local_steps_choices:
            _count("strategy.local_steps_choices", steps, 1)
        if list(self.local_steps_choices) != sorted(set(self.local_steps_choices)):
            raise ConfigError(
                "strategy.local_steps_choices: expected ascending, different numbers of steps, "
                f"got {list(self.local_steps_choices)}"
            )
        for key in ("cohort", "warmup_rounds", "recovery_rounds"):
            _count(f"strategy.{key}", getattr(self, key), 0)
        if len(self.reward_weights) != 4:
            raise ConfigError(f"strategy.reward_weights: expected four weights, got {len(self.reward_weights)}")
        for weight in self.reward_weights:
            _at_least("strategy.reward_weights", weight, 0)
        if self.weights is not None:
            _one_of("strategy.weights", self.weights, ("examples", "effective"))
        _one_of("strategy.factors", self.factors, ("both", "b", "alternating"))
        _one_of("strategy.order", self.order, ("fleet", "class", "device"))
        if self.context and self.pace == "off":
            raise ConfigError("strategy.context needs learned speeds: set strategy.pace to filter or lagrange")
        _one_of("strategy.pace", self.pace, ("off", "filter", "lagrange"))
        _one_of("strategy.reward_times", self.reward_times, ("measured", "model"))
        _share("strategy.discount", self.discount)
        if self.exploration is not None:
            _at_least("strategy.exploration", self.exploration, 0)
        _between("strategy.min_width", self.min_width, 0.001, 1.0)
        _above("strategy.server_lr", self.server_lr, 0)
        if not 0.0 <= self.server_momentum < 1.0:
            raise ConfigError(f"strategy.server_momentum must be in [0, 1), got {self.server_momentum}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """[training]: local training on a device."""

    local_steps: int = 10
    batch_size: int = 16
    learning_rate: float = 2e-3
    final_lr_share: float = 0.1  # of the learning rate, in the last round; half a cosine lies between; 1 is constant
    weight_decay: float = 0.0
    lora_scale: float = 2.0
    targets: tuple[str, ...] = ()  # linear layers with adapters; empty is every prunable one
    importance: str = "taylor"  # a name of fedcore.core.pruning.criteria.CRITERIA
    keep_optimizer: bool = False
    distill: float = 0.0  # weight of learning from the dense model on devices that are cut; 0 is off
    distill_temperature: float = 1.0
    label_skew: str = "balance"  # or "adjust": the loss alone; or "ignore"; else devices tell their label counts
    codec: str = "bf16+zstd"  # of updates: fedcore.core.codec.grammar; a class may have its own
    downlink: str = "full"  # or "delta": also as differences from the last round's; or "bf16": rounded, the head is not
    handout: str | None = None  # "kept": a device fetches no rows of groups it dropped; "whole"; None: as far as can be

    def __post_init__(self) -> None:
        _count("training.local_steps", self.local_steps, 1)
        _count("training.batch_size", self.batch_size, 1)
        for key in ("learning_rate", "lora_scale"):
            _above(f"training.{key}", getattr(self, key), 0)
        _at_least("training.weight_decay", self.weight_decay, 0)
        if not 0.0 < self.final_lr_share <= 1.0:
            raise ConfigError(f"training.final_lr_share must be in (0, 1], got {self.final_lr_share}")
        _one_of("training.importance", self.importance, tuple(CRITERIA))
        _between("training.distill", self.distill, 0.0, 1.0)
        _above("training.distill_temperature", self.distill_temperature, 0)
        _one_of("training.label_skew", self.label_skew, ("balance", "adjust", "ignore"))
        _one_of("training.downlink", self.downlink, ("full", "delta", "bf16"))
        if self.handout is not None:
            _one_of("training.handout", self.handout, ("whole", "kept"))


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
            _above(f"coordinator.{key}", getattr(self, key), 0)
        _share("coordinator.quorum", self.quorum)
        _count("coordinator.min_devices", self.min_devices, 1)
        _count("coordinator.max_void_rounds", self.max_void_rounds, 1)
        check_address(self.listen, "coordinator.listen", example="0.0.0.0:8443", any_port=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """[evaluation]"""

    rows_per_round: int = 500  # test rows after every round; all of them at the end; 0 evaluates at the end only
    reference_learning_rate: float = 5e-4  # of centralised LoRA; rates that suit a fleet's mean can break one model
    deadline_s: float = 600.0  # how long the end of a run waits for the evaluator without progress

    def __post_init__(self) -> None:
        _count("evaluation.rows_per_round", self.rows_per_round, 0)
        _above("evaluation.reference_learning_rate", self.reference_learning_rate, 0)
        _above("evaluation.deadline_s", self.deadline_s, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationConfig:
    """[simulation]: what `fedcore simulate` needs beside the run itself."""

    training: str = "batched"  # or "one-by-one": as a device trains, the same bits; or "none": losses from a curve
    workers: int = 0  # processes that train, with a thread each; 0: one per core where rounds are large, else none
    chunk_devices: int = 32  # virtual devices trained and folded together, at most; memory grows with it
    rows_per_device: int = 0  # 0: [data] deals every row out once; else each device draws so many, labels skewed alike
    gflops: float = 60.0  # 1e9 float32 operations per second of a device with slowdown 1
    trace: str = ""  # CSV of device,start_s,end_s: when devices are online; empty: as their class says
    exports: bool = True  # one model per class at the end
    curve: str = ""  # run folder whose losses `training = "none"` is fitted to; empty: the built-in curve

    def __post_init__(self) -> None:
        _one_of("simulation.training", self.training, ("batched", "one-by-one", "none"))
        _count("simulation.workers", self.workers, 0)
        _count("simulation.chunk_devices", self.chunk_devices, 1)
        _count("simulation.rows_per_device", self.rows_per_device, 0)
        _above("simulation.gflops", self.gflops, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetConfig:
    """[fleet]: what stands between the devices and the coordinator."""

    edges: tuple[int, ...] = ()  # edge aggregators of every tier from the top down; empty is none

    def __post_init__(self) -> None:
        for above, number in zip((1, *self.edges), self.edges, strict=False):
            _count("fleet.edges", number, 1)
            if number < above:
                raise ConfigError(
                    f"fleet.edges: a tier needs an edge at least for every one above it, got {list(self.edges)}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassConfig:
    """[[fleet.class]]: devices of one kind. A limit of 0 means not limited."""

    name: str
    count: int = 1
    slowdown: float = 1.0  # emulated: a device sleeps (slowdown - 1) x its own CPU time
    memory_mb: float = 0.0  # limit on peak live tensor memory of a training step
    uplink_mbps: float = 0.0
    downlink_mbps: float = 0.0
    network: str = ""  # network class, for figures only: "5g", "wifi", "ethernet"; empty is unknown
    target_sparsity: float | None = None  # None: strategy.target_sparsity
    codec: str | None = None  # None: training.codec
    # Only in a simulation:
    availability: str = "always"  # "diurnal": online a share of every day; "churn": comes and goes at random
    online_share: float = 0.5  # of the time, under diurnal and churn
    session_s: float = 3600.0  # mean time online, under churn
    power_modes: tuple[float, ...] = ()  # factors of slowdown, dealt to the class's devices in turn; empty: all alike
    uplink_range_mbps: tuple[float, ...] = ()  # (slowest, fastest): each device's own, log-uniform; empty: uplink_mbps
    downlink_range_mbps: tuple[float, ...] = ()
    link_sigma: float = 0.0  # spread of a link's speed over time: lognormal, median 1
    link_period_s: float = 0.0  # the speed drifts from one draw to the next in so long; 0: a draw per assignment
    dropout: float = 0.0  # share of assignments during which a device vanishes for a lease
    failure: float = 0.0  # share of assignments that a device fails

    def __post_init__(self) -> None:
        check_name(self.name, "fleet.class name")
        check_network(self.network, f"fleet.class {self.name}: network")
        _count(f"fleet.class {self.name}: count", self.count, 1)
        _at_least(f"fleet.class {self.name}: slowdown", self.slowdown, 1)
        for key in ("memory_mb", "uplink_mbps", "downlink_mbps"):
            _at_least(f"fleet.class {self.name}: {key}", getattr(self, key), 0)
        if self.target_sparsity is not None:
            _sparsity(f"fleet.class {self.name}: target_sparsity", self.target_sparsity)
        _one_of(f"fleet.class {self.name}: availability", self.availability, ("always", "diurnal", "churn"))
        _share(f"fleet.class {self.name}: online_share", self.online_share)
        _above(f"fleet.class {self.name}: session_s", self.session_s, 0)
        for factor in self.power_modes:
            _at_least(f"fleet.class {self.name}: power_modes", factor, 1)
        for key in ("uplink_range_mbps", "downlink_range_mbps"):
            _range(f"fleet.class {self.name}: {key}", getattr(self, key))
        for key in ("link_sigma", "link_period_s"):
            _at_least(f"fleet.class {self.name}: {key}", getattr(self, key), 0)
        for key in ("dropout", "failure"):
            _between(f"fleet.class {self.name}: {key}", getattr(self, key), 0.0, 1.0)


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
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    classes: tuple[ClassConfig, ...] = ()

    def __post_init__(self) -> None:
        names = [each.name for each in self.classes]
        if len(set(names)) != len(names):
            raise ConfigError(f"fleet.class names must differ, got {names}")
        for tier in range(1, len(self.fleet.edges) + 1):
            if f"edge-{tier}" in names:
                raise ConfigError(f"fleet.class edge-{tier}: its devices would be called as edges are; rename it")
        devices = sum(each.count for each in self.classes)
        if self.classes and self.fleet.edges and self.fleet.edges[-1] > devices:
            raise ConfigError(f"fleet.edges: {self.fleet.edges[-1]} edges in the lowest tier, and {devices} devices")

    def devices(self) -> Iterator[tuple[str, ClassConfig]]:
        """Yield (device name, class) of every device of a fleet, class by class."""
        for each in self.classes:
            for number in range(each.count):
                yield f"{each.name}-{number}", each

    def target_sparsity(self, device_class: str) -> float:
        """The sparsity devices of `device_class` shall reach."""
        for each in self.classes:
            if each.name == device_class and each.target_sparsity is not None:
                return each.target_sparsity
        return self.strategy.target_sparsity

    def codec(self, device_class: str) -> str:
        """The codec of updates from devices of `device_class`."""
        for each in self.classes:
            if each.name == device_class and each.codec is not None:
                return each.codec
        return self.training.codec


def _count(where: str, value: int, low: int) -> None:
    if not low <= value < COUNT_LIMIT:
        raise ConfigError(f"{where} must be at least {low} and below 2**31, got {value}")


# Written so that NaN, which compares false with everything, is refused too.


def _at_least(where: str, value: float, low: float) -> None:
    if not (value >= low and math.isfinite(value)):
        raise ConfigError(f"{where} must be at least {low:g}, got {value}")


def _above(where: str, value: float, low: float) -> None:
    if not (value > low and math.isfinite(value)):
        raise ConfigError(f"{where} must be above {low:g}, got {value}")


def _range(where: str, bounds: Sequence[float]) -> None:
    if bounds and not (len(bounds) == 2 and 0 < bounds[0] <= bounds[1] < math.inf):
        raise ConfigError(f"{where}: expected a slowest and a fastest speed above 0, in this order; got {list(bounds)}")


def _between(where: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{where} must be in [{low}, {high}], got {value}")


def _share(where: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ConfigError(f"{where} must be in (0, 1], got {value}")


def _sparsity(where: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ConfigError(f"{where} must be in [0, 1), got {value}")


def _one_of(where: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{where}: expected one of {', '.join(known)}; got {value!r}")
