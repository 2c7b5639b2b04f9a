"""Whole layers in a removal order: their influences, the order in which they go, and the part that is fixed.

A layer's influence is how much its block changes the hidden state, 1 - cos(input, output), in [0, 2] (ShortGPT, Men et
al., 2024, arXiv 2403.03853, eq. 1), averaged over devices and rounds. Until a device has measured it, it is a guess:
blocks somewhat behind the middle change least, the first and the last ones most.

The part of the order's state is

    {"scores": [layer], "frozen": [place]}

as base64 text: little-endian float32 influences, little-endian uint32 layers that are gone for good, first removed
first. The order is the frozen layers, then all others by ascending influence, ties by index.
"""

import base64
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.protocols import Json

Influences = NDArray[np.float64]  # (layers,)
Measured = tuple[tuple[int, ...], NDArray[np.float32], int]  # kept layers, their influences, the device's weight

LEAST_LIKELY = 0.7  # of the depth: where blocks change the state least before anybody has measured


def initial_depth(layers: int) -> Json:
    """Return the state before any device has measured an influence: all near 1, the least at 0.7 of the depth."""
    distance = np.abs(np.arange(layers) - LEAST_LIKELY * (layers - 1)) / layers
    return _written(1.0 + distance, ())


def absorb_influences(state: Json, measured: Sequence[Measured], keep: float) -> Json:
    """Return the state after a round's influences: mean over devices by weight, then keep * known + (1 - keep) * mean.

    Layers that no device has measured keep their influence.
    """
    known, total = influences(state), np.zeros(len(influences(state)))
    weights = np.zeros_like(total)
    for layers, values, weight in measured:
        places = np.asarray(layers, dtype=np.int64)
        total[places] += weight * values.astype(np.float64)
        weights[places] += weight
    seen = weights > 0
    mean = np.divide(total, weights, out=known.copy(), where=seen)
    return _written(np.where(seen, keep * known + (1.0 - keep) * mean, known), _frozen(state))


def freeze_layers(state: Json, removed: int) -> Json:
    """Return the state in which the first `removed` layers of the order never come back."""
    return _written(influences(state), layer_order(state)[: max(removed, len(_frozen(state)))])


def layer_order(state: Json) -> tuple[int, ...]:
    """Return all layers, first removed first."""
    frozen = _frozen(state)
    rest = np.argsort(influences(state), kind="stable").tolist()
    return (*frozen, *(layer for layer in rest if layer not in set(frozen)))


def influences(state: Json) -> Influences:
    """Return the averaged influence of every layer, (layers,)."""
    return np.frombuffer(base64.b64decode(state["scores"], validate=True), dtype="<f4").astype(np.float64)


def mean_depth(states: Sequence[Json]) -> Json:
    """Return the state of the mean influences of several orders, each counted once; nothing is frozen."""
    return _written(np.mean([influences(state) for state in states], axis=0), ())


def _frozen(state: Json) -> tuple[int, ...]:
    return tuple(np.frombuffer(base64.b64decode(state["frozen"], validate=True), dtype="<u4").tolist())


def _written(values: Influences, frozen: Sequence[int]) -> Json:
    return {
        "scores": base64.b64encode(values.astype("<f4").tobytes()).decode(),
        "frozen": base64.b64encode(np.asarray(frozen, dtype="<u4").tobytes()).decode(),
    }
