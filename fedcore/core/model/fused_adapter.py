"""Adapters of the modules of a fused layer as one adapter of that layer, for readers that know the layer alone.

With factors A_m, B_m of every module m, the fused layer's are A = all A_m below each other, and B = every B_m in the
rows of its module and the columns of its A_m, else zero: B A has B_m A_m in the rows of m.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.base_shift import SHIFT
from fedcore.core.model.module_paths import stored_in

Matrix = NDArray[np.float32]


def fused_modules(spec: AdapterSpec) -> dict[str, list[tuple[int, str]]]:
    """Return (layer, module) of the adapted modules by the path of the fused layer that a checkpoint has for them."""
    found: dict[str, list[tuple[int, str]]] = {}
    for layer, module in spec.modules():
        place = stored_in(spec.geometry, layer, module)
        if place.rows is not None:
            found.setdefault(place.path, []).append((layer, module))
    return found


def fused_factors(spec: AdapterSpec, tensors: Tensors) -> dict[str, tuple[Matrix, Matrix]]:
    """Return A (n, in) and B (out, n) by the path of the fused layer; n is the rank times the modules adapted."""
    return {path: _factors(spec, tensors, members) for path, members in fused_modules(spec).items()}


def fused_shift(spec: AdapterSpec, tensors: Tensors) -> dict[str, Matrix]:
    """Return what is added to the weight (out, in) of every fused layer, by its path."""
    shifts: dict[str, Matrix] = {}
    for path, members in fused_modules(spec).items():
        shifts[path] = np.zeros(stored_in(spec.geometry, *members[0]).shape, dtype=np.float32)
        for layer, module in members:
            shifts[path][stored_in(spec.geometry, layer, module).rows] = tensors[f"layers.{layer}.{module}{SHIFT}"]
    return shifts


def _factors(spec: AdapterSpec, tensors: Tensors, members: list[tuple[int, str]]) -> tuple[Matrix, Matrix]:
    out = stored_in(spec.geometry, *members[0]).shape[0]
    a = np.concatenate([tensors[f"layers.{layer}.{module}.A"] for layer, module in members])  # (n, in)
    b = np.zeros((out, len(a)), dtype=np.float32)
    for place, (layer, module) in enumerate(members):
        columns = slice(place * spec.rank, (place + 1) * spec.rank)
        b[stored_in(spec.geometry, layer, module).rows, columns] = tensors[f"layers.{layer}.{module}.B"]
    return a, b
