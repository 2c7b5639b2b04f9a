"""Rings: nested keep-sets split the adapter's cut rows and columns, so that a device fetches only its own groups.

Theory. K_0 < K_1 < ... < K_n are the keep-sets of a round, each inside the next. Ring 0 holds the groups of K_0, and
ring i the groups of K_i that K_(i-1) lacks: rows of B, or columns of A, of every factor that pruning cuts. Factors that
are never cut are whole in the first ring that has their layer: ring 0, unless K_0 lacks the whole layer. A ring omits a
factor of which it has no group. A device with keep-set K_i fetches rings 0 to i: together they hold the groups of K_i
and no other, so it downloads no row that it drops.

    K_0 = {1}   K_1 = {1, 4}   K_2 = {0, 1, 4}       rings: 0 has group 1, 1 has group 4, 2 has group 0

`joined` sorts the groups of several rings by their index in the dense model, which gives the device's coordinates.

Every ring costs a blob for each range of ranks, and every device is told their names, so there are at most MOST. A
device with another keep-set fetches the rings of the next larger keep-set and cuts the rest itself.
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
    """Return the keep-sets that split a round's adapter into rings, each inside the next, the largest last.

    `keep_sets` has one for each device. Where more than `most` differ, the result has those that end equal shares of
    the devices. It is empty where the keep-sets do not nest, or where there is none.
    """
    of_devices = list(keep_sets)
    by_name = {keep_set.blob_id: keep_set for keep_set in of_devices}
    devices = Counter(keep_set.blob_id for keep_set in of_devices)
    ordered = sorted(by_name.values(), key=lambda keep_set: keep_set.counts.size_key)
    if not all(inner.is_subset_of(outer) for inner, outer in itertools.pairwise(ordered)):
        return ()
    if len(ordered) <= most:
        return tuple(ordered)
    up_to = np.cumsum(
        [devices[keep_set.blob_id] for keep_set in ordered]
    )  # devices that a keep-set or a smaller one has
    ends = np.searchsorted(up_to, [-(-len(of_devices) * share // most) for share in range(1, most + 1)])
    return tuple(ordered[end] for end in sorted(set(ends.tolist())))


def ring(spec: AdapterSpec, tensors: Tensors, inner: KeepSet | None, outer: KeepSet) -> dict[str, NDArray[np.float32]]:
    """Return the ring of `outer` around `inner` (None: the innermost), of factors in full coordinates, all ranks."""
    factors: dict[str, NDArray[np.float32]] = {}
    for layer, module in spec.modules(outer):
        key = f"layers.{layer}.{module}"
        rows = outer.indices(spec.geometry, layer, module)
        new_layer = inner is None or layer not in inner.layers
        before = None if inner is None or new_layer else inner.indices(spec.geometry, layer, module)
        cut, whole = _cut_factor(module)
        if new_layer:
            factors[f"{key}.{whole}"] = tensors[f"{key}.{whole}"]
            if rows is None:  # multi-query attention's keys and values
                factors[f"{key}.{cut}"] = tensors[f"{key}.{cut}"]
        if rows is None:
            continue
        new = rows if before is None else np.setdiff1d(rows, before, assume_unique=True)
        if len(new):
            value = tensors[f"{key}.{cut}"]
            factors[f"{key}.{cut}"] = value[:, new] if cut == "A" else value[new]  # (rank, new), (new, rank)
    return factors


def joined(parts: Sequence[Tensors], keep_sets: Sequence[KeepSet]) -> dict[str, NDArray[np.float32]]:
    """Return the factors of the last of `keep_sets`, in its coordinates, from the rings 0 to its own.

    Raises ValueError where a ring has other groups than its keep-set says.
    """
    factors: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        pieces = [(part[name], index) for index, part in enumerate(parts) if name in part]
        if len(pieces) == 1:
            factors[name] = pieces[0][0]
            continue
        _, layer, module, _ = name.split(".")
        axis = 1 if module in READERS else 0
        places = [_new_units(keep_sets, index, int(layer), module) for _, index in pieces]
        spread = [_spread(units, value.shape[axis]) for (value, _), units in zip(pieces, places, strict=True)]
        value = np.concatenate([value for value, _ in pieces], axis=axis)
        factors[name] = np.take(value, np.argsort(np.concatenate(spread), kind="stable"), axis=axis)
    return factors


def _cut_factor(module: str) -> tuple[str, str]:
    """Return the factor of a module that pruning cuts, and the one that stays whole."""
    return ("A", "B") if module in READERS else ("B", "A")


def _new_units(keep_sets: Sequence[KeepSet], index: int, layer: int, module: str) -> NDArray[np.int64]:
    def units(keep_set: KeepSet) -> tuple[int, ...]:
        return (keep_set.heads if module in ATTENTION_MODULES else keep_set.channels)[layer]

    before = units(keep_sets[index - 1]) if index else ()
    return np.setdiff1d(np.asarray(units(keep_sets[index]), dtype=np.int64), np.asarray(before, dtype=np.int64))


def _spread(units: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return the unit of every row of a ring, (rows,)."""
    if len(units) == 0 or rows % len(units):
        raise ValueError(f"{rows} rows or columns for {len(units)} groups")
    return np.repeat(units, rows // len(units))
