"""Weight magnitude of every prunable group of a checkpoint: it orders removal before a device has scored groups."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Geometry, Unit
from fedcore.core.model.module_paths import Stored, stored_in
from fedcore.storage.models.checkpoint import backbone_name
from fedcore.storage.models.tensor_file import TensorEntry, check_readable, read_tensor, tensor_index


def weight_magnitudes(folder: Path, geometry: Geometry) -> GroupScores:
    """Return the L2 norm of the weights and biases that pruning removes with each group, in dense coordinates.

    Every layer's vector is then scaled to L2 norm 1, as measured importances are: `heads[i]` is float32 of shape
    (geometry.head_units,), `channels[i]` of shape (geometry.ffn,). Norms of whole structures as importance: Li et al.
    2017, "Pruning Filters for Efficient ConvNets", arXiv:1608.08710, section 3.1 (L1 there, L2 here).
    Raises ModelError for a tensor that is missing or has another shape.
    """
    try:
        return _magnitudes(folder, geometry)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None


def check_layers(folder: Path, geometry: Geometry) -> None:
    """Raise ModelError unless every linear layer of every layer is there in its shape and a dtype that is read here.

    Reads the headers of the checkpoint's files alone.
    """
    entries = _backbone(folder)
    try:
        for layer in range(geometry.layers):
            for module in geometry.modules:
                place = stored_in(geometry, layer, module)
                check_readable(_entry(entries, f"{place.path}.weight", _shape(place)))
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from None


def _backbone(folder: Path) -> dict[str, TensorEntry]:
    return {name: entry for entry in tensor_index(folder).values() if (name := backbone_name(entry.name)) is not None}


def _magnitudes(folder: Path, geometry: Geometry) -> GroupScores:
    entries = _backbone(folder)
    layers = range(geometry.layers)
    return GroupScores(
        heads=tuple(_layer_scores(entries, geometry, layer, "head") for layer in layers),
        channels=tuple(_layer_scores(entries, geometry, layer, "channel") for layer in layers),
    )


def _layer_scores(entries: dict[str, TensorEntry], geometry: Geometry, layer: int, unit: Unit) -> NDArray[np.float32]:
    squares = np.zeros(geometry.head_units if unit == "head" else geometry.ffn, dtype=np.float64)
    for module in geometry.modules:
        cut = geometry.cut(module)
        if cut is None or cut.unit != unit:
            continue
        place = stored_in(geometry, layer, module)
        weight = _weight(entries, place)
        squares += _per_unit(weight if cut.side == "out" else weight.T, len(squares))
        if cut.side == "out" and f"{place.path}.bias" in entries:
            bias = _tensor(entries, f"{place.path}.bias", place.shape[:1])
            squares += _per_unit(bias if place.rows is None else bias[place.rows], len(squares))
    if not np.isfinite(squares).all():
        raise ModelError(f"weights of layer {layer} hold NaN or infinite values; get an undamaged copy of the model")
    norm = float(np.sqrt(squares.sum()))
    return (np.sqrt(squares) / (norm or 1.0)).astype(np.float32)


def _per_unit(values: NDArray[np.float32], units: int) -> NDArray[np.float64]:
    """Sum squares over each of `units` equal runs of rows: (units * width, ...) -> (units,)."""
    runs = values.reshape(units, -1).astype(np.float64)
    sums: NDArray[np.float64] = np.square(runs).sum(axis=1)
    return sums


def _weight(entries: dict[str, TensorEntry], place: Stored) -> NDArray[np.float32]:
    """Return the weight of one module, (out, in)."""
    whole = _tensor(entries, f"{place.path}.weight", _shape(place))
    weight = whole.T if place.transposed else whole
    return weight if place.rows is None else weight[place.rows]


def _shape(place: Stored) -> tuple[int, int]:
    out, into = place.shape
    return (into, out) if place.transposed else (out, into)


def _tensor(entries: dict[str, TensorEntry], name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return read_tensor(_entry(entries, name, shape))


def _entry(entries: dict[str, TensorEntry], name: str, shape: tuple[int, ...]) -> TensorEntry:
    entry = entries.get(name)
    if entry is None:
        raise ModelError(f"the checkpoint has no tensor {name!r}; does config.json belong to it?")
    if entry.shape != shape:
        raise ModelError(
            f"tensor {entry.name!r} has shape {entry.shape}, the config implies {shape}; does config.json belong to it?"
        )
    return entry
