"""The partition of the rows of a data set over devices.

The Dirichlet split by label is the usual model of label skew: Hsu, Qi, Brown 2019, "Measuring the Effects of
Non-Identical Data Distribution for Federated Visual Classification", arXiv:1909.06335, section 3. The same split by
length of the texts is a skew of the texts, with labels as even as a random split makes them. The split by one label a
device is the extreme of label skew, as a hospital of one diagnosis: McMahan et al. 2017, "Communication-Efficient
Learning of Deep Networks from Decentralized Data", arXiv:1602.05629, section 3 has two labels a device. Both splits
may look at another column instead, such as language or author: the skew that data have by nature.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import DataError
from fedcore.core.seeds import derive_seed, generator

PARTITIONS = ("dirichlet", "one-label", "length", "iid")
BY_LABEL = ("dirichlet", "one-label")  # of these, those that look at the labels
BY_COLUMN = ("by", "dirichlet")  # "by:COLUMN": a value's rows on one device; "dirichlet:COLUMN": with Dirichlet shares
LENGTHS = 4  # groups of equal size, from the shortest texts to the longest: quarters

Label = int | str
Indices = NDArray[np.int64]


def partition_seed(run_seed: int) -> int:
    """Return the seed of a run's partition: the same for a local fleet and for shards assigned at join."""
    return derive_seed(run_seed, "partition")


def column_of(partition: str) -> str:
    """Return the column that a partition looks at: "lang" of "by:lang"; empty for one that looks at none of its own."""
    kind, _, column = partition.partition(":")
    return column if kind in BY_COLUMN else ""


def partition_keys(
    partition: str, texts: Sequence[Sequence[str]], labels: Sequence[Label], *, groups: Sequence[str] = ()
) -> Sequence[Label]:
    """Return the keys of the split: labels, values of a column, or the quarter of each row's length in characters.

    Quarters are of all rows, by rank; equal lengths keep their order. `texts[i]` are the one or two texts of row i,
    `groups[i]` its value in the column of the partition, where it names one. Raises DataError for such a column with
    one value for all rows, or with another in every row.
    """
    if column_of(partition):
        _check_column(partition, groups)
        return groups
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
    match partition.partition(":")[0]:
        case "dirichlet" | "length":
            return dirichlet_shards(labels, shards, alpha, seed)
        case "one-label" | "by":
            return one_label_shards(labels, shards, seed)
        case "iid":
            return iid_shards(len(labels), shards, seed)
    expected = ", ".join((*PARTITIONS, *(f"{kind}:COLUMN" for kind in BY_COLUMN)))
    raise DataError(f"unknown partition {partition!r}; expected one of {expected}")


def shard(
    labels: Sequence[Label], index: int, *, shards: int, partition: str, alpha: float = 1.0, seed: int = 0
) -> Indices:
    """Return the row indices of shard `index` (0-based); raises DataError for an index outside [0, shards)."""
    if not 0 <= index < shards:
        raise DataError(f"shard {index} does not exist: expected 0 to {shards - 1} of {shards} shards")
    return shards_of(labels, shards=shards, partition=partition, alpha=alpha, seed=seed)[index]


def _check_column(partition: str, groups: Sequence[str]) -> None:
    column, values = column_of(partition), set(groups)
    if len(values) < 2:
        only = next(iter(values), "")
        raise DataError(f'data.partition {partition!r}: every row has {only!r} in column {column!r}; take "iid"')
    if len(values) == len(groups):
        raise DataError(
            f"data.partition {partition!r}: column {column!r} has another value in every row, so it tells no rows "
            'that belong together; name another column, or take "iid"'
        )


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
