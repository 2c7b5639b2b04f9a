"""The dense form of a bundle: per linear layer, the integer sum of the product increments of all updates.

Update k, with factors B0, A0 handed out and increments dB, dA, moved the product of its layer by

    B1 A1 - B0 A0 = dB A1 + B0 dA = [dB | B0] @ [A1 ; dA]          A1 = A0 + dA

Each update's increment is computed in float64 over fixed blocks of rows, rounded to the usual fixed point, multiplied
by the weight and added as integers (fixed_point). So neither the tier that adds it nor the order makes a difference.
The product itself comes from BLAS: its bits repeat for one NumPy build, CPU family and a single BLAS thread.
"""

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.bundled_update import BundledUpdate
from fedcore.core.aggregation.sums.fixed_point import BLOCK_VALUES, biased_integers, unbias
from fedcore.core.aggregation.sums.members import UpdateKey
from fedcore.core.aggregation.sums.placing import Placement, placement
from fedcore.core.contract.update import Update, peak
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors

PRODUCT_BOUND = 2.0**6 - 2.0**-8  # the bound checked; the margin covers a product computed in blocks of another size


def dense_bytes(spec: AdapterSpec) -> int:
    """Return the bytes of the dense form in memory: eight for every value of every adapted layer."""
    return sum(8 * out * into for out, into in (spec.geometry.shape(module) for _, module in spec.modules()))


def empty_dense(spec: AdapterSpec) -> dict[str, NDArray[np.int64]]:
    """Return int64 zeros (out, in) by layer and module."""
    return {
        f"layers.{layer}.{module}": np.zeros(spec.geometry.shape(module), dtype=np.int64)
        for layer, module in spec.modules()
    }


def add_dense(
    total: NDArray[np.int64], update: BundledUpdate, spec: AdapterSpec, adapter: Tensors, layer: int, module: str
) -> None:
    """Add weight * round((B1 A1 - B0 A0) * 2**33) of one layer into `total` (out, in) in place.

    `adapter` is the one handed out, and `check_products` has accepted the update with it.
    """
    at = placement(spec, update.keep_set, layer, module)
    left, right = _factors(update, adapter, f"layers.{layer}.{module}", at)  # (kept out, 2 r), (2 r, kept in)
    if at.a_columns is not None:
        # columns outside the keep-set stay zero: multiplying by zero is cheaper than adding at scattered places
        narrow, right = right, np.zeros((right.shape[0], total.shape[1]))  # (2 r, in)
        right[:, at.a_columns] = narrow
    step = max(1, BLOCK_VALUES // right.shape[1])
    for start in range(0, left.shape[0], step):
        stop = start + step
        block = left[start:stop] @ right  # (block rows, in)
        integers = biased_integers(block, update.weight)
        unbias(integers, update.weight)
        total[slice(start, stop) if at.b_rows is None else at.b_rows[start:stop]] += integers


def check_products(key: UpdateKey, update: BundledUpdate | Update, spec: AdapterSpec, adapter: Tensors) -> None:
    """Raise UpdateRejected, naming the layer, where an entry of an update's product increment reaches 2**6.

    The peaks of the factors decide nearly every case. The product is computed only where their bound is too loose.
    """
    for layer, module in spec.modules():
        name = f"layers.{layer}.{module}"
        da, db = peak(update.tensors[f"{name}.A"]), peak(update.tensors[f"{name}.B"])
        a0, b0 = peak(adapter[f"{name}.A"]), peak(adapter[f"{name}.B"])
        if update.rank * (db * (a0 + da) + b0 * da) < PRODUCT_BOUND:
            continue
        left, right = _factors(update, adapter, name, placement(spec, update.keep_set, layer, module))
        largest = max(peak(left[start : start + 64] @ right) for start in range(0, left.shape[0], 64))
        if not largest < PRODUCT_BOUND:
            raise UpdateRejected(
                f"update of {key[0]} for round {key[1]}: its product at {name} moved by {largest:.3g}, more than the "
                "bound of 64; lower the learning rate"
            )


def _factors(
    update: BundledUpdate | Update, adapter: Tensors, name: str, at: Placement
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    da, db = update.tensors[f"{name}.A"], update.tensors[f"{name}.B"]  # (r, kept in), (kept out, r)
    rows = slice(None) if at.b_rows is None else at.b_rows
    columns = slice(None) if at.a_columns is None else at.a_columns
    a0, b0 = adapter[f"{name}.A"][: update.rank, columns], adapter[f"{name}.B"][rows, : update.rank]
    left = np.concatenate([db, b0], axis=1, dtype=np.float64)  # (kept out, 2 r)
    right = np.concatenate([a0, da], axis=0, dtype=np.float64)  # (2 r, kept in)
    right[: update.rank] += da
    return left, right
