"""From configuration, base model and ledger to a running engine, once the labels are known."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, initial_adapter
from fedcore.config import Config
from fedcore.errors import RunError
from fedcore.geometry import geometry_from_config
from fedcore.head import checkpoint_head, checkpoint_rows, has_label_rows, resolve_head
from fedcore.protocols import Json, Strategy
from fedcore.seeds import generator
from protos.values import BlobRef, GlobalAdapter
from server.adapter_blobs import load_adapter, store_adapter
from server.engine import Engine
from server.ledger import Ledger
from server.run_folder import RunFolder
from server.run_log import RunLog
from storage.blobs import BlobStore
from storage.checkpoint import read_config
from storage.magnitudes import weight_magnitudes
from storage.tensor_file import read_tensor, tensor_index
from strategies.table import make_strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRun:
    """A run as its folder holds it: strategy and state after the last closed round, and the global adapter."""

    labels: tuple[str, ...]
    strategy: Strategy
    state: Json
    tensors: dict[str, NDArray[np.float32]]
    adapter: GlobalAdapter


def make_engine(
    *, config: Config, model: Path, labels: tuple[str, ...], blobs: BlobStore, ledger: Ledger, log: RunLog
) -> Engine:
    """Make the engine of a new run, or of one that goes on from its ledger; fixes the labels durably."""
    strategy = _strategy(config, model, labels)
    held = ledger.load()
    if held.labels != labels:
        ledger.set_meta("labels", list(labels))
    if held.strategy_state is not None:
        adapter = _held_adapter(held.global_blobs, blobs, (held.next_round or 1) - 1)
        tensors = load_adapter(blobs, strategy.spec, adapter)
        state = held.strategy_state
    else:
        tensors = untrained_adapter(config, model, labels, strategy.spec)
        adapter = store_adapter(blobs, strategy.spec, tensors, 0)
        state = strategy.start()
    return Engine(
        config=config,
        strategy=strategy,
        blobs=blobs,
        ledger=ledger,
        log=log,
        state=state,
        tensors=tensors,
        adapter=adapter,
    )


def held_run(folder: RunFolder, config: Config, model: Path) -> HeldRun:
    """Read a run that is not being served; raises RunError where no round has closed yet."""
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        held = ledger.load()
    finally:
        ledger.close()
    if held.strategy_state is None or not held.global_blobs:
        raise RunError(f"{folder.root} has no closed round yet; there is nothing to export")
    strategy = _strategy(config, model, held.labels)
    blobs = BlobStore(folder.blobs)
    adapter = _held_adapter(held.global_blobs, blobs, 0)
    return HeldRun(
        labels=held.labels,
        strategy=strategy,
        state=held.strategy_state,
        tensors=load_adapter(blobs, strategy.spec, adapter),
        adapter=adapter,
    )


def _strategy(config: Config, model: Path, labels: tuple[str, ...]) -> Strategy:
    geometry = geometry_from_config(read_config(model))
    shapes = {name: entry.shape for name, entry in tensor_index(model).items()}
    head = resolve_head(read_config(model), config.model.head, len(labels), shapes)
    return make_strategy(config, geometry, head.shapes, prior=weight_magnitudes(model, geometry))


def untrained_adapter(
    config: Config, model: Path, labels: tuple[str, ...], spec: AdapterSpec
) -> dict[str, NDArray[np.float32]]:
    """Return the adapter every run with this seed and model begins from; a checkpoint's own head keeps its values."""
    return initial_adapter(
        spec, generator(config.run.seed, "initial adapter"), _checkpoint_head(config, model, labels, spec)
    )


def _checkpoint_head(
    config: Config, model: Path, labels: tuple[str, ...], spec: AdapterSpec
) -> dict[str, NDArray[np.float32]]:
    description, index = read_config(model), tensor_index(model)
    shapes = {name: entry.shape for name, entry in index.items()}
    kind = resolve_head(description, config.model.head, len(labels), shapes).kind
    rows = list(checkpoint_rows(description, labels))
    held: dict[str, NDArray[np.float32]] = {}
    for name, shape in spec.head:
        entry = index.get(checkpoint_head(kind, name) or "")
        if entry is not None and tuple(entry.shape) == shape:
            value = read_tensor(entry)
            held[name] = value[rows] if has_label_rows(name) else value
    return held


def _held_adapter(named: tuple[tuple[str, str], ...], blobs: BlobStore, round_index: int) -> GlobalAdapter:
    refs = [BlobRef(id=blob_id, size=blobs.size(blob_id), name=name) for name, blob_id in named]
    return GlobalAdapter(
        round=round_index,
        rank_blocks=tuple(ref for ref in refs if ref.name != "head"),
        head=next(ref for ref in refs if ref.name == "head"),
    )
