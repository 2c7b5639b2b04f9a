"""The run configuration as values: one class per table, with every key's type, default, range, unit and meaning.

The tables are [run] [task] [model] [data] [strategy] [training] [coordinator] [evaluation] [simulation] [fleet] and
[[fleet.class]]. Every class raises ConfigError, naming the key, for a value out of range. `fedcore.core.config.toml`
reads and writes them as TOML; `fedcore.core.config.schema` and `fedcore.core.config.page` describe them to editors and
readers. Larger tables have files of their own; this module names all of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fedcore.core.config.fleet import ClassConfig, FleetConfig, SimulationConfig
from fedcore.core.config.keys import Unit, check_keys
from fedcore.core.config.list_rules import different_labels, one_or_two
from fedcore.core.config.rules import (
    above,
    finite,
    offered,
    one_of,
    one_of_or,
    valid_address,
    valid_name,
    whole_number,
    within,
)
from fedcore.core.config.strategy import StrategyConfig
from fedcore.core.config.training import TrainingConfig
from fedcore.core.errors import ConfigError

__all__ = [
    "TABLES",
    "ClassConfig",
    "Config",
    "CoordinatorConfig",
    "DataConfig",
    "EvaluationConfig",
    "FleetConfig",
    "ModelConfig",
    "RunConfig",
    "SimulationConfig",
    "StrategyConfig",
    "TaskConfig",
    "TrainingConfig",
]

# of fedcore.core.data.partition, which needs numpy
PARTITION = one_of_or("dirichlet", "one-label", "length", "iid", columns=("by", "dirichlet"))
SEED_LIMIT = 2**63  # seeds travel as unsigned 64-bit numbers and fit a signed one everywhere


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """[run]: what the run is called, how long it lasts, and where its randomness begins."""

    name: Annotated[
        str,
        valid_name(),
        "1 to 63 characters of a-z, 0-9 and `-`; the folder is `runs/NAME`, then `NAME-2` and so on",
    ] = "run"
    seed: Annotated[int, within(0, SEED_LIMIT, "[)"), "seed of everything random: cohorts, arms, shards, batches"] = 0
    rounds: Annotated[int, whole_number(1), "rounds of the run; void rounds do not count"] = 10

    def __post_init__(self) -> None:
        check_keys(self, "run.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskConfig:
    """[task]: what the model learns to do."""

    kind: Annotated[
        str,
        # the names of fedcore.core.tasks.table, which checks it; a test compares them
        offered(("auto", "classification", "generation", "regression")),
        "task: `classification`, where a text or a pair of texts has one of the labels; `regression`, where it has "
        "one number, in the label column; or `generation`, where a causal language model writes answers. `auto`: "
        "`generation` where the rows have columns of prompts and answers or of chats, and no text and label; else "
        "`classification`; `serve` reads no rows and takes the latter",
    ] = "auto"
    low: Annotated[
        float | None,
        finite(),
        "`regression`: where most targets lie, from here on; it limits nothing, and gives all members one unit. "
        "`auto`: two standard deviations below the mean of the rows, where the run reads them (`fleet`, `simulate`); "
        "`serve` reads none and needs both numbers",
    ] = None
    high: Annotated[float | None, finite(), "`regression`: where most targets lie, up to here; `auto` as `low`"] = None
    template: Annotated[
        str,
        "form of prompts and chats under `generation`: `auto` (the tokenizer's own chat template, or plain text where "
        "it has none), `none` (plain text), `chatml`, or the path of a Jinja file that every process has",
    ] = "auto"
    generated_rows: Annotated[
        int,
        whole_number(0),
        Unit("rows"),
        "held-back rows that the model answers at every measurement, for exact match, chrF, ROUGE-L and samples",
    ] = 16
    answer_tokens: Annotated[int, whole_number(1), Unit("tokens"), "longest answer that the model is let write"] = 48
    metric: Annotated[
        str,
        "a figure of your own under `generation`: `module:function`, called with the answers and lists of references",
    ] = ""

    def __post_init__(self) -> None:
        check_keys(self, "task.")
        if (self.low is None) != (self.high is None):
            raise ConfigError("task.low and task.high: expected both, or neither")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ConfigError(f"task.low must be below task.high, got {self.low:g} and {self.high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """[model]: the base model that every device prunes and tunes."""

    path: Annotated[
        str,
        "base model: a local folder, a hub id, or `fetch:NAME` (`fedcore fetch` lists the names)",
    ] = "fetch:minilm"
    max_length: Annotated[
        int, whole_number(2), Unit("tokens"), "length at which rows are cut, both texts of a pair together"
    ] = 64
    head: Annotated[
        str,
        one_of("auto", "mean", "last", "stock"),
        "task head. `auto`: the checkpoint's own classifier where it fits the labels, else `mean` (BERT types) or "
        "`last` (Llama types); `stock`: the checkpoint's own",
    ] = "auto"
    dtype: Annotated[str, one_of("float32", "bfloat16"), "type of the frozen base weights"] = "float32"
    quantize: Annotated[
        str,
        one_of("none", "int8", "nf4"),  # fedcore.core.model.quantization.FORMS
        "form in which devices hold the frozen weights of the layers that pruning cuts: cut first, then quantised. "
        "`int8` and `nf4` (4 bits) save memory, not time; `nf4` takes the extra `quantize`; exports are of the "
        "unquantised base",
    ] = "none"

    def __post_init__(self) -> None:
        check_keys(self, "model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """[data]: the rows, their columns and labels, and how they are dealt out."""

    train: Annotated[
        str, "training rows: CSV, TSV, JSONL, Parquet, a folder or hub id for `datasets`, or `fetch:NAME`"
    ] = "fetch:movies"
    test: Annotated[str, "held-back rows, as `train`; empty: `test_fraction` of `train` is held back"] = ""
    text: Annotated[str | tuple[str, ...], one_or_two(), "text column, or a list of two for pair tasks"] = "text"
    label: Annotated[str, "label column"] = "label"
    labels: Annotated[
        tuple[str, ...],
        different_labels(),
        "the agreed list of labels; empty: from the data (`fleet`, where the test file must not have others), or from "
        "the first device that joins (`serve`)",
    ] = ()
    test_fraction: Annotated[
        float, within(0.0, 0.9), "share of `train` that is held back where `test` is empty, by a hash of the text"
    ] = 0.2
    partition: Annotated[
        str,
        PARTITION,
        "how rows are dealt out. `dirichlet`: by label with Dirichlet shares; `one-label`: rows of one label on every "
        "device, as far as there are devices enough; `length`: with such shares of the "
        "shortest to the longest quarter of the texts, so that texts differ from device to device and labels hardly "
        "do; or `iid`. `by:COLUMN`, such as `by:language`: rows with the same value in a column of the data on one "
        "device, as far as there are devices enough; `dirichlet:COLUMN`: by its values with Dirichlet shares",
    ] = "dirichlet"
    alpha: Annotated[float, above(0), "Dirichlet concentration; smaller is more skewed"] = 1.0
    shards: Annotated[int, whole_number(0), "parts the rows are cut into; 0: one per device"] = 0
    replay: Annotated[
        str,
        "general texts that devices train on beside their rows under `generation`, against forgetting: a source as "
        "`train`, with a column `text`. Under `serve` the key only says that they do: each device has a file of its "
        "own, `join --replay`; empty: none",
    ] = ""
    replay_share: Annotated[
        float,
        within(0.0, 0.5),
        "share of a batch's rows that are general texts, and of the loss that they make, where there are any",
    ] = 0.25

    def __post_init__(self) -> None:
        check_keys(self, "data.")

    @property
    def replayed(self) -> float:
        """Share of general texts in a batch; 0 without any."""
        return self.replay_share if self.replay else 0.0

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The one or two text columns."""
        return self.text if isinstance(self.text, tuple) else (self.text,)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorConfig:
    """[coordinator]: where it listens, and how long it waits for devices."""

    listen: Annotated[
        str,
        valid_address("0.0.0.0:8443"),
        "HOST:PORT to listen on; port 0 picks a free one",
    ] = "127.0.0.1:0"
    lease_s: Annotated[float, above(0), Unit("s"), "silence after which a device counts as lost"] = 30.0
    round_deadline_s: Annotated[float, above(0), Unit("s"), "time after which a round closes at the latest"] = 120.0
    quorum: Annotated[float, within(0, 1, "(]"), "share of the cohort whose updates make a round count"] = 0.5
    min_devices: Annotated[int, whole_number(1), Unit("devices"), "the run begins once so many devices have joined"] = 1
    join_deadline_s: Annotated[
        float, above(0), Unit("s"), "how long the run waits for `min_devices` before it pauses"
    ] = 120.0
    max_void_rounds: Annotated[int, whole_number(1), "number of void rounds in a row that pauses the run"] = 3

    def __post_init__(self) -> None:
        check_keys(self, "coordinator.")


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """[evaluation]: how the model is measured."""

    rows_per_round: Annotated[
        int,
        whole_number(0),
        Unit("rows"),
        "held-back rows measured after every round; 0: only at the end, where all are measured in any case",
    ] = 500
    reference_learning_rate: Annotated[
        float,
        above(0),
        "learning rate of centralised LoRA under `--reference`; rates that suit a fleet's mean can break one model",
    ] = 5e-4
    deadline_s: Annotated[
        float,
        above(0),
        Unit("s"),
        "how long the end of a run waits for an evaluator that is silent or has not come back yet",
    ] = 600.0

    def __post_init__(self) -> None:
        check_keys(self, "evaluation.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One run, resolved."""

    run: RunConfig = field(default_factory=RunConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
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
        names = [kind.name for kind in self.classes]
        if len(set(names)) != len(names):
            raise ConfigError(f"fleet.class names must differ, got {names}")
        for tier in range(1, len(self.fleet.edges) + 1):
            if f"edge-{tier}" in names:
                raise ConfigError(f"fleet.class edge-{tier}: its devices would be called as edges are; rename it")
        devices = sum(kind.count for kind in self.classes)
        if self.classes and self.fleet.edges and self.fleet.edges[-1] > devices:
            raise ConfigError(f"fleet.edges: {self.fleet.edges[-1]} edges in the lowest tier, and {devices} devices")

    def devices(self) -> Iterator[tuple[str, ClassConfig]]:
        """Yield (device name, class) of every device of a fleet, class by class."""
        for kind in self.classes:
            for number in range(kind.count):
                yield f"{kind.name}-{number}", kind

    def target_sparsity(self, device_class: str) -> float:
        """Return the target sparsity of devices of `device_class`."""
        for kind in self.classes:
            if kind.name == device_class and kind.target_sparsity is not None:
                return kind.target_sparsity
        return self.strategy.target_sparsity

    @property
    def forms(self) -> tuple[tuple[str, str], ...]:
        """The form in which each class's devices hold the base, sorted by class; "" stands for every other class."""
        of_classes = {kind.name: kind.quantize for kind in self.classes if kind.quantize is not None}
        return tuple(sorted(({"": self.model.quantize} | of_classes).items()))

    def quantize(self, device_class: str) -> str:
        """Return the form in which devices of `device_class` hold the base."""
        forms = dict(self.forms)
        return forms.get(device_class, forms[""])

    def precision(self, device_class: str) -> str:
        """Return the precision that devices of `device_class` compute in; AUTO where their accelerators say."""
        for kind in self.classes:
            if kind.name == device_class and kind.precision is not None:
                return kind.precision
        return self.training.precision

    def codec(self, device_class: str) -> str:
        """Return the codec of updates from devices of `device_class`."""
        for kind in self.classes:
            if kind.name == device_class and kind.codec is not None:
                return kind.codec
        return self.training.codec


TABLES: Mapping[str, type[Any]] = {
    "run": RunConfig,
    "task": TaskConfig,
    "model": ModelConfig,
    "data": DataConfig,
    "strategy": StrategyConfig,
    "training": TrainingConfig,
    "coordinator": CoordinatorConfig,
    "evaluation": EvaluationConfig,
    "simulation": SimulationConfig,
    "fleet": FleetConfig,
}  # by name, in the order written out; [[fleet.class]] stands below [fleet]
