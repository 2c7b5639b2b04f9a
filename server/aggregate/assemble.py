"""Make a run's engine out of its configuration, base model and ledger, once the labels are known."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import AdapterSpec, Tensors, initial_adapter
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.head import checkpoint_head, checkpoint_rows, has_label_rows, resolve_head, times
from fedcore.core.seeds import generator
from fedcore.core.tasks.table import task_of
from fedcore.core.tasks.task import Range
from fedcore.server.aggregate.engine import Engine
from fedcore.server.aggregate.global_file import ADAPTER, VELOCITY, map_global, read_global, write_global
from fedcore.server.aggregate.global_model import GlobalModel
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.turn_record import LedgerState
from fedcore.storage.models.checkpoint import read_config
from fedcore.storage.models.magnitudes import weight_magnitudes
from fedcore.storage.models.tensor_file import read_tensor, tensor_index
from fedcore.strategies.table import make_strategy, resolve_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSnapshot:
    """A run's model as its folder holds it: strategy and state after the last closed round, and the global adapter."""

    labels: tuple[str, ...]
    strategy: Strategy
    state: Json
    tensors: dict[str, NDArray[np.float32]]


def make_engine(
    run: Run,
    labels: tuple[str, ...],
    *,
    strategy: Strategy | None = None,
    untrained: Tensors | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Engine:
    """Make the engine of a new run, or of a run that goes on from its ledger, and fix the labels durably.

    The log of `run` must be open. `strategy` and the `untrained` adapter follow from its configuration and base model
    unless given; with both given, this does not read the model. `clock` times arithmetic and disk, for figures only.
    """
    config, model, folder, ledger, blobs = run.config, run.model, run.folder, run.ledger, run.blobs
    strategy = _strategy(config, model, labels) if strategy is None else strategy
    config = resolve_settings(config)  # devices train with the settings as the strategy resolves them
    committed = ledger.load()
    if committed.labels != labels:
        ledger.set_meta("labels", list(labels))
    round_index, digest = _committed_global(committed)
    if round_index:
        read_global(folder.globals, round_index, digest)  # verifies that the file mapped below is the committed one
    else:
        tensors = untrained_adapter(config, model, labels, strategy.spec) if untrained is None else dict(untrained)
        write_global(folder.globals, tensors, round_index)
    velocity, velocity_digest = _committed_velocity(folder, committed)
    leftovers = blobs.names()
    return Engine(
        config=config,
        labels=labels,
        strategy=strategy,
        blobs=blobs,
        ledger=ledger,
        log=run.log,
        state=strategy.start() if committed.strategy_state is None else committed.strategy_state,
        model=GlobalModel(
            spec=strategy.spec,
            ranks=config.strategy.ranks,
            downlink=config.training.downlink,
            blobs=blobs,
            folder=folder.globals,
            round_index=round_index,
            tensors=map_global(folder.globals, round_index),
            digest=digest,
            velocity=velocity,
            velocity_digest=velocity_digest,
        ),
        counted_rounds={
            device: closed.round for closed in ledger.iter_rounds() if not closed.void for device in closed.accepted
        },
        leftovers=leftovers,
        counted=sum(not closed.void for closed in ledger.iter_rounds()),
        has_pruned=_has_pruned(ledger),
        clock=clock,
    )


def _has_pruned(ledger: Ledger) -> bool:
    """Whether a counted update is that of a pruned device."""
    return any(
        not void and any(row["sparsity"] > 0 and row["status"] == Status.ACCEPTED for row in rows)
        for _, void, rows in ledger.iter_outcomes()
    )


def read_snapshot(folder: RunFolder, config: Config, model: Path) -> RunSnapshot:
    """Read a run that no coordinator serves; raises RunError if no round has closed yet."""
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        committed = ledger.load()
    finally:
        ledger.close()
    round_index, digest = _committed_global(committed)
    if committed.strategy_state is None or not round_index:
        raise RunError(f"{folder.root} has no closed round yet; there is nothing to export")
    strategy = _strategy(config, model, committed.labels)
    return RunSnapshot(
        labels=committed.labels,
        strategy=strategy,
        state=committed.strategy_state,
        tensors=read_global(folder.globals, round_index, digest),
    )


def _strategy(config: Config, model: Path, labels: tuple[str, ...]) -> Strategy:
    geometry = geometry_from_config(read_config(model))
    shapes = {name: entry.shape for name, entry in tensor_index(model).items()}
    head = resolve_head(read_config(model), config.model.head, task_of(config).outputs(labels), shapes)
    return make_strategy(config, geometry, head.shapes, prior=weight_magnitudes(model, geometry))


def untrained_adapter(
    config: Config, model: Path, labels: tuple[str, ...], spec: AdapterSpec
) -> dict[str, NDArray[np.float32]]:
    """Return the adapter that every run with this seed and model begins with; a checkpoint's head keeps its values."""
    return initial_adapter(
        spec, generator(config.run.seed, "initial adapter"), _checkpoint_head(config, model, labels, spec)
    )


def _checkpoint_head(
    config: Config, model: Path, labels: tuple[str, ...], spec: AdapterSpec
) -> dict[str, NDArray[np.float32]]:
    description, index = read_config(model), tensor_index(model)
    shapes = {name: entry.shape for name, entry in index.items()}
    kind = resolve_head(description, config.model.head, task_of(config).outputs(labels), shapes).kind
    rows = list(checkpoint_rows(description, labels))
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, shape in spec.head:
        entry = index.get(checkpoint_head(kind, name) or "")
        if entry is not None and tuple(entry.shape) == shape:
            value = read_tensor(entry)
            tensors[name] = value[rows] if rows and has_label_rows(name) else value
    measured = task_of(config).range
    return tensors if measured is None else tensors | _in_units(tensors, measured, spec)


def _in_units(head: Tensors, measured: Range, spec: AdapterSpec) -> dict[str, NDArray[np.float32]]:
    """Return what makes the first outputs: a checkpoint's own in units, else a bias that answers the middle."""
    biases = {name: np.full(shape, measured.centre, np.float32) for name, shape in spec.head if len(shape) == 1}
    return {name: value for name, value in biases.items() if has_label_rows(name)} | times(head, 1 / measured.unit)


def _committed_global(committed: LedgerState) -> tuple[int, str]:
    """Round and file hash of the committed global adapter; (0, "") before round 1, whose adapter the seed gives."""
    return _committed_file(committed, ADAPTER) or (0, "")


def _committed_velocity(folder: RunFolder, committed: LedgerState) -> tuple[Tensors | None, str]:
    """Velocity of the server optimiser, committed with the adapter, verified and mapped; None if there is none."""
    file = _committed_file(committed, VELOCITY)
    if file is None:
        return None, ""
    round_index, digest = file
    read_global(folder.globals, round_index, digest, kind=VELOCITY)
    return map_global(folder.globals, round_index, kind=VELOCITY), digest


def _committed_file(committed: LedgerState, kind: str) -> tuple[int, str] | None:
    """Round and file hash of the committed global of a kind."""
    for name, digest in committed.global_blobs:
        if name.startswith(f"{kind}-"):
            return int(name.removeprefix(f"{kind}-")), digest
    return None
