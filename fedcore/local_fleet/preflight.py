"""Check everything about a local fleet that can be checked before its first process starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fedcore.client.data.labels import labelled_rows, row_warnings, task_lines
from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import dealt_rows, replayed_texts, run_keys
from fedcore.client.device.model_check import check_model
from fedcore.client.evaluation.answer_libraries import left_out
from fedcore.core.accelerators import AUTO, dealt
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Strategy
from fedcore.core.data.device_rows import FleetRows
from fedcore.core.errors import ConfigError, DataError
from fedcore.core.tasks.options import options_of
from fedcore.core.tasks.table import task_of
from fedcore.local_fleet.client_extra import require_client
from fedcore.server.run.preflight import check_fleet_fits, check_run
from fedcore.storage.models.model_source import model_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyFleet:
    """A fleet that can begin: its configuration with the labels written out, its strategy, its rows."""

    config: Config
    strategy: Strategy
    training: Rows
    test: Rows

    def rows(self) -> FleetRows:
        """Return which rows every device gets."""
        return dealt_rows(self.config, self.training, self.test)


def checked(config: Config, say: Callable[[str], object] = lambda _: None) -> Config:
    """Return the configuration of `ready_fleet`."""
    return ready_fleet(config, say).config


def ready_fleet(config: Config, say: Callable[[str], object] = lambda _: None) -> ReadyFleet:
    """Return a fleet that can begin, and `say` what is doubtful.

    Raises ConfigError, DataError, ModelError or JoinRefused, with the remedy, where the fleet could not run.
    """
    require_client("fedcore fleet")
    devices = sum(device_class.count for device_class in config.classes)
    if not devices:
        raise ConfigError("a fleet needs devices: add [[fleet.class]] tables to the configuration")
    shards = config.data.shards or devices
    if shards < devices:
        raise ConfigError(f"data.shards is {shards}, fewer than the {devices} devices; raise it or use 0")
    model = model_folder(config.model.path)
    check_run(config, model)
    labelled, training, test = labelled_rows(config)
    for line in task_lines(config, labelled):
        say(line)
    for doubt in (*row_warnings(config, training, test), *left_out(task_of(labelled), options_of(labelled.task))):
        say(f"warning: {doubt}")
    if len(training) < shards:
        raise DataError(
            f"{config.data.train}: {len(training)} training rows are too few for {shards} devices of one row or more; "
            "take fewer devices, or more rows"
        )
    run_keys(labelled, training)  # a column that tells nothing is a mistake now
    replayed_texts(labelled.data.replay, task_of(labelled))
    strategy = check_run(labelled, model)
    check_fleet_fits(labelled, strategy)
    return ReadyFleet(config=labelled, strategy=strategy, training=training, test=test)


def try_model(config: Config) -> tuple[str, ...]:
    """Load the base model's tokenizer and first layer as every device will; takes seconds, in another process.

    `config` has passed `checked`. Return the accelerators of this machine. Raises ModelError with the remedy, and
    ConfigError where a class asks for an accelerator that is not among them.
    """
    accelerators = check_model(
        model_folder(config.model.path),
        labels=config.data.labels,
        head=config.model.head,
        dtype=config.model.dtype,
        task=config.task.kind,
        forms=sorted({(config.quantize(kind.name), kind.device) for kind in config.classes}),
    )
    member_devices(config, accelerators)
    return accelerators


def member_devices(config: Config, accelerators: Sequence[str]) -> tuple[str, ...]:
    """Return where each device of a fleet trains, in their order, and last where its evaluator measures."""
    wanted = [(kind.device, f"fleet.class {kind.name}: device") for _, kind in config.devices()]
    return dealt([*wanted, (AUTO, "evaluator")], accelerators)
