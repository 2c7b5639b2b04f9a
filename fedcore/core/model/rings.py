"""Rings: nested keep-sets part the adapter's cut rows and columns, so that a device fetches those of its own groups.

K_0 < K_1 < ... < K_n are the keep-sets of a round, each inside the next. Ring i holds, of every factor that pruning
cuts (rows of B, columns of A), the groups of K_i that K_(i-1) lacks; factors that are never cut lie whole in ring 0. A
device that keeps K_i needs rings 0 to i, and all they hold is its own. A ring leaves out factors it has nothing of.

Every ring costs a blob per range of ranks, named to every device, so there are few: a device whose keep-set is none of
them takes those up to the next larger one, and cuts that.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.geometry import ATTENTION_MODULES, READERS
from fedcore.core.model.keep_set import KeepSet

MOST = 8


def nested(keep_sets: Iterable[KeepSet], most: int = MOST) -> tuple[KeepSet, ...]:
    """Return the keep-sets of a round that part its adapter, each inside the next, the last one the largest.

    `keep_sets` are the devices': where more than `most` are different, those at which equal shares of the devices end.
    Empty where they do not nest, or without any.
    """
    given = list(keep_sets)
    by_name = {each.blob_id: each for each in given}
    devices = Counter(each.blob_id for each in given)
    ordered = sorted(by_name.values(), key=lambda each: each.counts)
    if not all(inner.is_subset_of(outer) for inner, outer in itertools.pairwise(ordered)):
        return ()
    if len(ordered) <= most:
        return tuple(ordered)
    up_to = np.cumsum([devices[each.blob_id] for each in ordered])
    ends = np.searchsorted(up_to, [-(-len(given) * share // most) for share in range(1, most + 1)])
    return tuple(ordered[end] for end in sorted(set(ends.tolist())))


def ring(spec: AdapterSpec, tensors: Tensors, inner: KeepSet | None, outer: KeepSet) -> dict[str, NDArray[np.float32]]:
    """Return the ring of `outer` around `inner` (None: the innermost), of factors in full coordinates, all ranks."""
    held: dict[str, NDArray[np.float32]] = {}
    for layer, module in spec.modules():
        key = f"layers.{layer}.{module}"
        rows = outer.indices(spec.geometry, layer, module)
        before = None if inner is None else inner.indices(spec.geometry, layer, module)
        cut, whole = _cut_factor(module)
        if inner is None:
            held[f"{key}.{whole}"] = tensors[f"{key}.{whole}"]
            if rows is None:  # multi-query attention's keys and values
                held[f"{key}.{cut}"] = tensors[f"{key}.{cut}"]
        if rows is None:
            continue
        new = rows if before is None else np.setdiff1d(rows, before, assume_unique=True)
        if len(new):
            value = tensors[f"{key}.{cut}"]
            held[f"{key}.{cut}"] = value[:, new] if cut == "A" else value[new]
    return held


def joined(parts: Sequence[Tensors], keep_sets: Sequence[KeepSet]) -> dict[str, NDArray[np.float32]]:
    """Return the factors that the last of `keep_sets` holds, in its coordinates, from rings 0 to its own.

    Raises ValueError where a ring has other groups than its keep-set says.
    """
    held: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        found = [(part[name], index) for index, part in enumerate(parts) if name in part]
        if len(found) == 1:
            held[name] = found[0][0]
            continue
        _, layer, module, _ = name.split(".")
        axis = 1 if module in READERS else 0
        places = [_new_units(keep_sets, index, int(layer), module) for _, index in found]
        spread = [_spread(units, value.shape[axis]) for (value, _), units in zip(found, places, strict=True)]
        value = np.concatenate([value for value, _ in found], axis=axis)
        held[name] = np.take(value, np.argsort(np.concatenate(spread), kind="stable"), axis=axis)
    return held


def _cut_factor(module: str) -> tuple[str, str]:
    """Return the factor of a module that pruning cuts, and the one it leaves whole."""
    return ("A", "B") if module in READERS else ("B", "A")


def _new_units(keep_sets: Sequence[KeepSet], index: int, layer: int, module: str) -> NDArray[np.int64]:
    def units(keep_set: KeepSet) -> tuple[int, ...]:
        return (keep_set.heads if module in ATTENTION_MODULES else keep_set.channels)[layer]

    before = units(keep_sets[index - 1]) if index else ()
    return np.setdiff1d(np.asarray(units(keep_sets[index]), dtype=np.int64), np.asarray(before, dtype=np.int64))


def _spread(units: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return the unit of every row of a ring."""
    if len(units) == 0 or rows % len(units):
        raise ValueError(f"{rows} rows or columns for {len(units)} groups")
    return np.repeat(units, rows // len(units))
