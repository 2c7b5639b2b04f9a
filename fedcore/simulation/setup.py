"""Everything a simulation needs before its first round, read and checked before the run folder is created."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedcore.client.data.labels import labelled_rows, row_warnings, task_lines
from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import fleet_rows, replayed_texts, run_keys
from fedcore.client.device.libraries import import_libraries
from fedcore.core.accelerators import CPU
from fedcore.core.config.auto import usual_steps
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Strategy
from fedcore.core.data.device_rows import FleetRows
from fedcore.core.errors import ConfigError
from fedcore.core.learning_rate.search import UNKNOWN
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.tasks.table import task_of
from fedcore.server.run.preflight import check_fleet_fits, check_run
from fedcore.simulation.fleet.availability import read_traces
from fedcore.simulation.fleet.fleet import VirtualFleet, admitted, make_fleet
from fedcore.simulation.fleet.rows import assign_rows
from fedcore.simulation.workload.loss_curve import LossCurve, read_curve
from fedcore.storage.models.model_source import model_folder
from fedcore.strategies.policy.policy import Policy

UNTRAINED_ROWS = 100  # of every device, in a run that reads no rows
UNTRAINED_LABELS = ("0", "1")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSetup:
    """A checked configuration, its model, fleet and rows; `training` and `test` are None where nothing is trained."""

    config: Config
    model: Path
    spec: AdapterSpec  # of the global adapter, for what a round costs
    strategy: Strategy | None  # None: the one that configuration and model name
    fleet: VirtualFleet
    refused: Mapping[str, str]  # device class -> why the strategy refuses its devices
    training: Rows | None = None
    test: Rows | None = None
    texts: Rows | None = None  # general ones, which every device trains on too
    curve: LossCurve | None = None
    device: str = CPU  # where the model trains, as PyTorch calls it

    def rows(self) -> FleetRows | None:
        """Return which rows every device has; None where nothing is trained."""
        if self.training is None or self.test is None:
            return None
        devices = [(name, device.kind.name, device.rows) for name, device in self.fleet.devices.items()]
        return fleet_rows(self.config, self.training, self.test, devices)


def read_setup(config: Config, say: Callable[[str], object] = lambda _: None, *, device: str = CPU) -> SimulationSetup:
    """Read and check a configuration, and `say` what is doubtful; train on `device` (fedcore.core.accelerators).

    Raises ConfigError, DataError, ModelError or JoinRefused for a mistake that would otherwise end the run later.
    """
    devices = sum(kind.count for kind in config.classes)
    if not devices:
        raise ConfigError("a simulation needs devices: add [[fleet.class]] tables to the configuration")
    model = model_folder(config.model.path)
    check_run(config, model)
    traces = read_traces(Path(config.simulation.trace)) if config.simulation.trace else None
    if config.simulation.training == "none":
        rate = config.training.learning_rate or UNKNOWN  # nothing trains, so no trial can find one
        config = replace(
            config,
            data=replace(config.data, labels=config.data.labels or _untrained_labels(config)),
            training=replace(config.training, learning_rate=rate),
        )
        rows = np.arange(config.simulation.rows_per_device or UNTRAINED_ROWS)
        labels = [next(iter(config.data.labels), "")] * len(rows)
        fleet = make_fleet(config, [rows] * devices, labels, traces)
        strategy = check_run(config, model)
        fleet, refused = _joining(config, fleet, strategy)
        curve = _curve(config)
        return SimulationSetup(
            config=config,
            model=model,
            spec=strategy.spec,
            strategy=_narrow(strategy),
            fleet=fleet,
            refused=refused,
            curve=curve,
        )
    asked, (config, training, test) = config, labelled_rows(config)
    for line in task_lines(asked, config):
        say(line)
    for doubt in row_warnings(config, training, test):
        say(f"warning: {doubt}")
    shards, strategy = assign_rows(config, run_keys(config, training), devices), check_run(config, model)
    fleet, refused = _joining(config, make_fleet(config, shards, training.labels, traces), strategy)
    trains_on = _trying(config, model, device)
    return SimulationSetup(
        config=config,
        model=model,
        spec=strategy.spec,
        strategy=None,
        fleet=fleet,
        refused=refused,
        training=training,
        test=test,
        texts=replayed_texts(config.data.replay, task_of(config)),
        device=trains_on,
    )


def check_reference(setup: SimulationSetup, reference: bool) -> None:
    """Raise ConfigError where a reference is asked for, and the simulation has no rows to train it on."""
    if reference and setup.training is None:
        raise ConfigError(
            'a reference trains on the run\'s rows, and simulation.training = "none" reads none; leave the reference '
            'out, or set simulation.training = "batched"'
        )


def _untrained_labels(config: Config) -> tuple[str, ...]:
    return UNTRAINED_LABELS if task_of(config).labelled else ()


def _trying(config: Config, model: Path, device: str) -> str:
    """Return the accelerator that `device` stands for, once the model was loaded for a trial."""
    # Imported here: a simulation that trains nothing needs no torch, which takes seconds to load.
    import_libraries()
    from fedcore.nn.accelerator.present import device_for
    from fedcore.nn.model.quantized import check_quantizable
    from fedcore.nn.training.trial_load import check_loadable

    found = device_for(device)
    check_loadable(
        model, labels=config.data.labels, head=config.model.head, dtype=config.model.dtype, task=config.task.kind
    )
    for form in sorted({config.quantize(kind.name) for kind in config.classes}):
        check_quantizable(form, found)
    return found


def _joining(config: Config, fleet: VirtualFleet, strategy: Strategy) -> tuple[VirtualFleet, dict[str, str]]:
    check_fleet_fits(config, strategy)
    return admitted(fleet, strategy)


def _curve(config: Config) -> LossCurve:
    run = config.simulation.curve
    return read_curve(Path(run), usual_steps(config)) if run else LossCurve()


def _narrow(strategy: Strategy) -> Strategy:
    """Return the strategy with the smallest adapter: the run never changes it. The cost model keeps the full one."""
    if not isinstance(strategy, Policy):
        return strategy
    return replace(strategy, spec=replace(strategy.spec, targets=strategy.spec.targets[:1]))
