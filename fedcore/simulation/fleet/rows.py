"""The rows of every virtual device: disjoint shards of the data, or independent draws from it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.config.tables import Config
from fedcore.core.data.partition import Label, shards_of
from fedcore.core.errors import DataError
from fedcore.core.seeds import derive_seed, generator

Indices = NDArray[np.int64]


def assign_rows(config: Config, keys: Sequence[Label], devices: int) -> list[Indices]:
    """Return the ascending row indices of every device, in the order of `Config.devices`.

    `keys` say what the partition is skewed by (fedcore.core.data.partition.partition_keys), one per row. With
    `simulation.rows_per_device` 0 the result is the shards of a real fleet: every row has one owner. Otherwise every
    device draws that many rows for itself, and devices may share rows; its mix of keys is its own, except under "iid".
    Raises DataError where there are fewer rows than shards.
    """
    data, seed = config.data, derive_seed(config.run.seed, "partition")
    if config.simulation.rows_per_device:
        return _drawn(config, keys, devices, seed)
    shards = data.shards or devices
    if shards < devices:
        raise DataError(f"data.shards is {shards}, fewer than the {devices} devices; raise it or use 0")
    if len(keys) < shards:
        raise DataError(
            f"{data.train}: {len(keys)} training rows are too few for {shards} shards of a row or more; take fewer "
            "devices, more rows, or let devices share rows: simulation.rows_per_device"
        )
    dealt = shards_of(keys, shards=shards, partition=data.partition, alpha=data.alpha, seed=seed)
    return list(dealt[:devices])


def _drawn(config: Config, keys: Sequence[Label], devices: int, seed: int) -> list[Indices]:
    """Draw every device's mix of keys from a symmetric Dirichlet(alpha), then rows of these keys with replacement."""
    rng, count = generator(seed, "drawn"), config.simulation.rows_per_device
    if config.data.partition == "iid":
        return [np.sort(rng.integers(len(keys), size=count)) for _ in range(devices)]
    values, inverse = np.unique(np.array([str(key) for key in keys]), return_inverse=True)
    rows_of = [np.flatnonzero(inverse == value) for value in range(len(values))]
    if config.data.partition == "one-label":
        turns = np.arange(devices) % len(values)
        return [np.sort(rng.choice(rows_of[turn], size=count)) for turn in rng.permutation(turns)]
    mixes = rng.dirichlet(np.full(len(values), config.data.alpha), size=devices)
    return [_rows_of_mix(mix, rows_of, count, rng) for mix in mixes]


def _rows_of_mix(mix: NDArray[np.float64], rows_of: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    counts = rng.multinomial(count, mix)
    parts = [rng.choice(rows, size=number) for rows, number in zip(rows_of, counts, strict=True) if number]
    return np.sort(np.concatenate(parts)).astype(np.int64)
