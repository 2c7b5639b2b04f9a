"""The partition of the rows of a data set over devices.

The Dirichlet split by label is the usual model of label skew: Hsu, Qi, Brown 2019, "Measuring the Effects of
Non-Identical Data Distribution for Federated Visual Classification", arXiv:1909.06335, section 3. The same split by
length of the texts is a skew of the texts, with labels as even as a random split makes them. The split by one label a
device is the extreme of label skew, as a hospital of one diagnosis: McMahan et al. 2017, "Communication-Efficient
Learning of Deep Networks from Decentralized Data", arXiv:1602.05629, section 3 has two labels a device.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import DataError
from fedcore.core.seeds import derive_seed, generator

PARTITIONS = ("dirichlet", "one-label", "length", "iid")
BY_LABEL = ("dirichlet", "one-label")  # of these, those that look at the labels
LENGTHS = 4  # groups of equal size, from the shortest texts to the longest: quarters

Label = int | str
Indices = NDArray[np.int64]


def partition_seed(run_seed: int) -> int:
    """Return the seed of a run's partition: the same for a local fleet and for shards assigned at join."""
    return derive_seed(run_seed, "partition")


def partition_keys(partition: str, texts: Sequence[Sequence[str]], labels: Sequence[Label]) -> Sequence[Label]:
    """Return the keys of the split: the labels, or under "length" the quarter of each row's length in characters.

    Quarters are of all rows, by rank; equal lengths keep their order. `texts[i]` are the one or two texts of row i.
    """
    if partition != "length":
        return labels
    order = np.argsort([sum(map(len, row)) for row in texts], kind="stable")
    quarters = np.empty(len(order), dtype=np.int64)
    quarters[order] = np.arange(len(order)) * LENGTHS // max(1, len(order))
    return [int(quarter) for quarter in quarters]


def dirichlet_shards(labels: Sequence[Label], shards: int, alpha: float, seed: int) -> tuple[Indices, ...]:
    """Split rows so that each label is spread over the shards by one Dirichlet(alpha) draw.

    Small `alpha` gives shards of few labels, large `alpha` approaches an even split. Returns `shards` ascending
    int64 index arrays; every row is in exactly one, and none is empty. The same arguments always give the same shards.
    Raises DataError for fewer rows than shards, `shards` < 1, or `alpha` <= 0.
    """
    _check(len(labels), shards)
    if not 0 < alpha < np.inf:
        raise DataError(f"the Dirichlet concentration alpha must be above 0 and finite, got {alpha}")
    values = np.array([str(label) for label in labels])
    rows_of: list[list[int]] = [[] for _ in range(shards)]
    for value in np.unique(values):
        rng = generator(seed, "partition", "dirichlet", str(value))
        rows = rng.permutation(np.flatnonzero(values == value))
        shares = rng.dirichlet(np.full(shards, alpha))
        ends = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
        for shard, part in zip(rows_of, np.split(rows, ends), strict=True):
            shard.extend(part.tolist())
    return _sorted(_without_empty(rows_of))


def iid_shards(rows: int, shards: int, seed: int) -> tuple[Indices, ...]:
    """Split `rows` rows at random into shards with sizes that differ by at most one.

    Returns ascending int64 index arrays. Raises DataError for fewer rows than shards or `shards` < 1.
    """
    _check(rows, shards)
    shuffled = generator(seed, "partition", "iid").permutation(rows)
    return _sorted([part.tolist() for part in np.array_split(shuffled, shards)])


def one_label_shards(labels: Sequence[Label], shards: int, seed: int) -> tuple[Indices, ...]:
    """Split rows so that no shard holds two labels where there are as many shards as labels, or more.

    Labels with more rows get more shards, of about equal size. With fewer shards than labels, every label is in one
    shard. Returns `shards` ascending int64 index arrays; every row is in exactly one, and none is empty. Raises
    DataError for fewer rows than shards, or `shards` < 1.
    """
    _check(len(labels), shards)
    rng = generator(seed, "partition", "one-label")
    values = np.array([str(label) for label in labels])
    rows_of = [rng.permutation(np.flatnonzero(values == value)) for value in np.unique(values)]
    if len(rows_of) <= shards:
        parts = [
            part.tolist() for rows, count in _label_shards(rows_of, shards) for part in np.array_split(rows, count)
        ]
    else:
        parts = [[] for _ in range(shards)]
        for rows in sorted(rows_of, key=len, reverse=True):
            min(parts, key=len).extend(rows.tolist())
    return _sorted([parts[index] for index in rng.permutation(shards)])


def _label_shards(rows_of: Sequence[Indices], shards: int) -> Iterator[tuple[Indices, int]]:
    """Yield each label's rows and its number of shards: one each, then one more where a shard has the most rows."""
    counts = [1] * len(rows_of)
    for _ in range(shards - len(rows_of)):
        counts[max(range(len(counts)), key=lambda label: len(rows_of[label]) / counts[label])] += 1
    return zip(rows_of, counts, strict=True)


def shards_of(
    labels: Sequence[Label], *, shards: int, partition: str, alpha: float = 1.0, seed: int = 0
) -> tuple[Indices, ...]:
    """Return the row indices of every shard under `partition`, one of PARTITIONS; see `partition_keys`.

    Raises DataError as the split does, and for an unknown partition.
    """
    match partition:
        case "dirichlet" | "length":
            return dirichlet_shards(labels, shards, alpha, seed)
        case "one-label":
            return one_label_shards(labels, shards, seed)
        case "iid":
            return iid_shards(len(labels), shards, seed)
    raise DataError(f"unknown partition {partition!r}; expected one of {', '.join(PARTITIONS)}")


def shard(
    labels: Sequence[Label], index: int, *, shards: int, partition: str, alpha: float = 1.0, seed: int = 0
) -> Indices:
    """Return the row indices of shard `index` (0-based); raises DataError for an index outside [0, shards)."""
    if not 0 <= index < shards:
        raise DataError(f"shard {index} does not exist: expected 0 to {shards - 1} of {shards} shards")
    return shards_of(labels, shards=shards, partition=partition, alpha=alpha, seed=seed)[index]


def _check(rows: int, shards: int) -> None:
    if shards < 1:
        raise DataError(f"expected at least 1 shard, got {shards}")
    if rows < shards:
        raise DataError(f"{rows} rows cannot fill {shards} shards; take fewer shards or more rows")


def _without_empty(shards: list[list[int]]) -> list[list[int]]:
    """Give each empty shard the last row of the shard that is then the largest (the first of them on a tie)."""
    for shard_rows in shards:
        if not shard_rows:
            shard_rows.append(max(shards, key=len).pop())
    return shards


def _sorted(shards: list[list[int]]) -> tuple[Indices, ...]:
    return tuple(np.sort(np.array(shard_rows, dtype=np.int64)) for shard_rows in shards)
