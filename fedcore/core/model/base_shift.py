"""The base shift: the sum that FLoRA and FedEx-LoRA add to the frozen base weights, beside the adapter.

    layers.{i}.{module}.W        (out, in), float32: the sum so far, part of the global tensors

A round adds a *step*: for every adapted layer a pair of stacked factors, or the dense matrix if that is not larger:

    layers.{i}.{module}.step_B   (out, n)         layers.{i}.{module}.step_A   (n, in)
    layers.{i}.{module}.step     (out, in)

Server and devices add a step in the same way. So a device that took every step holds the shift that a new device is
sent whole, bit by bit on machines of one kind. A shift is in full coordinates; it is added before the model is cut.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ProtocolError
from fedcore.core.model.adapter import AdapterSpec, Tensors

Arrays = dict[str, NDArray[np.float32]]
SHIFT = ".W"


def shift_shapes(spec: AdapterSpec) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the shift's tensors by canonical name."""
    return {f"layers.{layer}.{module}{SHIFT}": spec.geometry.shape(module) for layer, module in spec.modules()}


def shift_of(tensors: Tensors) -> Arrays:
    """Return the shift among global tensors; empty where there is none."""
    return {name: tensors[name] for name in tensors if name.endswith(SHIFT)}


def step_of(name: str, b: NDArray[np.float64], a: NDArray[np.float64]) -> Arrays:
    """Return the step of b (out, n) @ a (n, in) for the shift's tensor `name`, in the smaller of its two forms."""
    key, (out, rank), into = name.removesuffix(SHIFT), b.shape, a.shape[1]
    if rank * (out + into) >= out * into:
        return {f"{key}.step": np.ascontiguousarray(b @ a, dtype=np.float32)}
    return {
        f"{key}.step_B": np.ascontiguousarray(b, dtype=np.float32),
        f"{key}.step_A": np.ascontiguousarray(a, dtype=np.float32),
    }


def stepped_shift(name: str, before: NDArray[np.float32] | None, step: Tensors) -> NDArray[np.float32]:
    """Return the shift's tensor `name` after a step; `before` None is zero.

    Raises ProtocolError where the step has no tensor for it, or one of another shape.
    """
    key = name.removesuffix(SHIFT)
    if f"{key}.step" in step:
        total = step[f"{key}.step"]  # (out, in)
    elif f"{key}.step_A" in step and f"{key}.step_B" in step:
        b, a = step[f"{key}.step_B"], step[f"{key}.step_A"]
        total = (b.astype(np.float64) @ a.astype(np.float64)).astype(np.float32)
    else:
        raise ProtocolError(f"a step of the base shift has nothing for {name}; fetch the whole shift")
    if before is not None and before.shape != total.shape:
        raise ProtocolError(f"a step of {name} has shape {total.shape}, expected {before.shape}")
    return np.array(total) if before is None else before + total


def after_step(before: Tensors, step: Tensors) -> Arrays:
    """Return the whole shift after a step; `before` is empty where there was none."""
    names = {f"{name.rpartition('.')[0]}{SHIFT}" for name in step}
    if before and names != set(before):
        raise ProtocolError(f"a step of the base shift is for {len(names)} layers, the shift has {len(before)}")
    return {name: stepped_shift(name, before.get(name), step) for name in sorted(names)}
