"""The rows of every virtual device: disjoint shards of the data, or independent draws from it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.client.data.shards import dealt
from fedcore.core.config.tables import Config
from fedcore.core.data.partition import Indices, Label, partition_seed
from fedcore.core.seeds import generator


def assign_rows(config: Config, keys: Sequence[Label], devices: int) -> list[Indices]:
    """Return the ascending row indices of every device, in the order of `Config.devices`.

    `keys` say what the partition is skewed by (fedcore.client.data.shards.run_keys), one per row. With
    `simulation.rows_per_device` 0 the result is the shards of a real fleet: every row has one owner. Otherwise every
    device draws that many rows for itself, and devices may share rows; its mix of keys is its own, except under "iid".
    Raises DataError where there are fewer rows than shards.
    """
    if config.simulation.rows_per_device:
        return _drawn(config, keys, devices)
    return list(dealt(config, keys, devices))


def _drawn(config: Config, keys: Sequence[Label], devices: int) -> list[Indices]:
    """Draw every device's mix of keys from a symmetric Dirichlet(alpha), then rows of these keys with replacement."""
    rng, count = generator(partition_seed(config.run.seed), "drawn"), config.simulation.rows_per_device
    if config.data.partition == "iid":
        return [np.sort(rng.integers(len(keys), size=count)) for _ in range(devices)]
    values, inverse = np.unique(np.array([str(key) for key in keys]), return_inverse=True)
    rows_of = [np.flatnonzero(inverse == value) for value in range(len(values))]
    if config.data.partition.partition(":")[0] in ("one-label", "by"):
        turns = np.arange(devices) % len(values)
        return [np.sort(rng.choice(rows_of[turn], size=count)) for turn in rng.permutation(turns)]
    mixes = rng.dirichlet(np.full(len(values), config.data.alpha), size=devices)
    return [_rows_of_mix(mix, rows_of, count, rng) for mix in mixes]


def _rows_of_mix(mix: NDArray[np.float64], rows_of: Sequence[Indices], count: int, rng: np.random.Generator) -> Indices:
    counts = rng.multinomial(count, mix)
    parts = [rng.choice(rows, size=number) for rows, number in zip(rows_of, counts, strict=True) if number]
    return np.sort(np.concatenate(parts)).astype(np.int64)
