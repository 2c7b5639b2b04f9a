"""Checks before a run begins, for errors that would otherwise end it after devices have joined."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedcore.core.aggregation.table import make_aggregator
from fedcore.core.bandit.table import make_bandit
from fedcore.core.codec.grammar import parse_chain
from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Strategy
from fedcore.core.errors import ConfigError, FedcoreError, JoinRefused, ModelError, RunError
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.head import resolve_head
from fedcore.core.model.support import unsupported
from fedcore.core.pruning.kinds import LAYERS
from fedcore.core.tasks.table import AUTO, task_of
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.models.checkpoint import read_config
from fedcore.storage.models.magnitudes import check_layers
from fedcore.storage.models.tensor_file import INDEX_FILE, tensor_files, tensor_index
from fedcore.strategies.table import make_strategy, resolve_settings

UNKNOWN_LABELS = ("0", "1")  # where the first device may set the list: two are the fewest


def check_run(config: Config, model: Path) -> Strategy:
    """Return the strategy of a run that can begin.

    Raises ConfigError for an unknown strategy, bandit, aggregator, codec or adapter target and for texts longer than
    the model reads, ModelError for a model that cannot be pruned or a head that does not fit it.
    """
    make_bandit(config.strategy)  # also if the strategy uses no bandit: an unknown name is a mistake anyway
    make_aggregator(config.strategy.aggregator)
    _check_codecs(config)
    _check_replay(config)
    description = read_config(model)
    geometry = geometry_from_config(description)
    _check_length(geometry, description, config.model.max_length)
    _check_supported(model, description)
    _check_whole_layers(config, description)
    shapes = {name: entry.shape for name, entry in tensor_index(model).items()}
    check_layers(model, geometry)
    outputs = task_of(config).outputs(config.data.labels or UNKNOWN_LABELS)
    head = resolve_head(description, config.model.head, outputs, shapes)
    return make_strategy(config, geometry, head.shapes)


def _check_whole_layers(config: Config, description: Mapping[str, Any]) -> None:
    if LAYERS in config.strategy.remove and description.get("scale_attn_by_inverse_layer_idx"):
        raise ConfigError(
            f"strategy.remove = {list(config.strategy.remove)}: this model divides attention scores by the number of "
            'their layer (scale_attn_by_inverse_layer_idx), and a shorter one counts anew; leave "layers" out'
        )


def check_agreed(config: Config) -> None:
    """Raise ConfigError where a coordinator, which reads no rows, is not told what its devices must agree on.

    Or where it is told of labels that there are none of.
    """
    task = task_of(config)
    if config.data.labels and not task.labelled:
        raise ConfigError(f"data.labels: rows of task {task.name} have no labels; leave the key out")
    if task.over is not None and task.range is None:
        raise ConfigError(
            f"task.low and task.high: the coordinator of a {task.name} reads no rows; say where most targets lie, for "
            "example --set task.low=1 --set task.high=5"
        )


def _check_replay(config: Config) -> None:
    """Refuse general texts where nothing writes them, or where a batch has no place for them beside a row."""
    if not config.data.replay:
        return
    if config.task.kind != AUTO and not task_of(config).forms:
        raise ConfigError(
            f"data.replay: general texts are for models that write, and the task is {config.task.kind}; leave it out"
        )
    if config.data.replayed and config.training.batch_size < 2:
        raise ConfigError("data.replay: a batch has a row of the task and a text at least; set training.batch_size = 2")


def _check_supported(model: Path, description: Mapping[str, Any]) -> None:
    """Refuse what every device would: it reads weights by the two names that transformers knows."""
    if (why := unsupported(description)) is not None:
        raise ModelError(f"{model / 'config.json'}: {why}")
    files = {file.name for file in tensor_files(model)}
    if "model.safetensors" not in files and not (model / INDEX_FILE).is_file():
        raise ModelError(
            f"{model}: found {min(files)}; expected model.safetensors or {INDEX_FILE}, which transformers reads"
        )


def check_fleet_fits(config: Config, strategy: Strategy) -> None:
    """Raise unless enough devices of the configured classes can join for the run to begin.

    ConfigError if there are fewer than min_devices; JoinRefused, with the figures, if memory_mb leaves too few.
    """
    total, needed = sum(table.count for table in config.classes), config.coordinator.min_devices
    if total < needed:
        raise ConfigError(f"coordinator.min_devices is {needed}, but the [[fleet.class]] tables make {total} device(s)")
    refused = refusals(config, strategy)
    left = total - sum(table.count for table, _ in refused)
    if refused and left < needed:
        raise JoinRefused(f"{refused[0][1]}; {left} of {total} devices would be left, coordinator.min_devices={needed}")


def refusals(config: Config, strategy: Strategy) -> list[tuple[ClassConfig, FedcoreError]]:
    """Return the classes whose devices the strategy would refuse, with the reasons."""
    return [(table, error) for table in config.classes if (error := _refusal(table, strategy)) is not None]


def check_unfinished(folder: RunFolder) -> None:
    """Raise RunError if a run has finished."""
    if has_finished(folder):
        raise RunError(f"{folder.root} has finished; look at it with: fedcore show {folder.root}, or start a new run")


def has_finished(folder: RunFolder) -> bool:
    """Whether a run has closed all rounds and written its summary."""
    if not folder.ledger.is_file():
        return False
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        return ledger.load().finished and folder.summary.is_file()
    finally:
        ledger.close()


def _refusal(table: ClassConfig, strategy: Strategy) -> FedcoreError | None:
    try:
        strategy.admit(
            DeviceProfile(
                name=f"{table.name}-0", device_class=table.name, num_examples=1, memory_mb=table.known_memory_mb
            )
        )
    except JoinRefused as error:
        return error
    return None


def _check_codecs(config: Config) -> None:
    codecs = {"training.": config.training.codec}
    codecs |= {f"fleet.class {table.name}: ": table.codec for table in config.classes if table.codec is not None}
    aggregator = make_aggregator(resolve_settings(config).strategy.aggregator)
    for where, codec in codecs.items():
        try:
            feedback = parse_chain(codec).feedback
        except ConfigError as error:
            raise ConfigError(f"{where}{error}") from None
        if feedback and aggregator.kind == "bundling":
            raise ConfigError(
                f"{where}codec: ef carries on what a mean of factors left out, and aggregator {aggregator.name} is "
                "made of more than means; use a strategy with the aggregator factor-mean or layer-mean, or "
                f"{codec.removeprefix('ef+')!r}"
            )


def _check_length(geometry: Geometry, description: Mapping[str, Any], max_length: int) -> None:
    pad = description.get("pad_token_id", 1)  # a RoBERTa's positions count from its padding id + 1
    limit = geometry.positions - (int(pad or 0) + 1 if "roberta" in geometry.model_type else 0)
    if geometry.positions and max_length > limit:
        raise ConfigError(f"model.max_length is {max_length}, but this model reads at most {limit} tokens")
