import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.config.tables import DataConfig
from fedcore.core.data.partition import (
    PARTITIONS,
    column_of,
    dirichlet_shards,
    iid_shards,
    one_label_shards,
    partition_keys,
    shard,
    shards_of,
)
from fedcore.core.errors import DataError

LABELS = ["neg", "pos"] * 50


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    shards=st.integers(1, 12),
    alpha=st.sampled_from([1e-3, 0.1, 1.0, 100.0, 1e6]),
    seed=st.integers(0, 2**32),
)
def test_every_row_lies_in_exactly_one_of_the_non_empty_shards(
    labels: list[int], shards: int, alpha: float, seed: int
) -> None:
    if len(labels) < shards:
        with pytest.raises(DataError, match="cannot fill"):
            dirichlet_shards(labels, shards, alpha, seed)
        with pytest.raises(DataError, match="cannot fill"):
            one_label_shards(labels, shards, seed)
        return
    for dealt in (
        dirichlet_shards(labels, shards, alpha, seed),
        one_label_shards(labels, shards, seed),
        iid_shards(len(labels), shards, seed),
    ):
        assert len(dealt) == shards
        assert all(len(each) >= 1 and each.dtype == np.int64 for each in dealt)
        assert np.array_equal(np.sort(np.concatenate(dealt)), np.arange(len(labels)))
        assert all(np.array_equal(each, np.sort(each)) for each in dealt)


def test_the_same_seed_deals_the_same_and_another_seed_differs() -> None:
    first, again, other = (dirichlet_shards(LABELS, 4, 0.5, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_shards_do_not_drift_unnoticed() -> None:
    assert [each.tolist() for each in dirichlet_shards([0, 1, 0, 1, 0, 1], 2, 1.0, 0)] == [[0, 2], [1, 3, 4, 5]]
    assert [each.tolist() for each in iid_shards(6, 2, 0)] == [[0, 3, 5], [1, 2, 4]]


def test_numbers_and_their_spelling_deal_alike() -> None:
    numbers = dirichlet_shards([0, 1] * 20, 3, 0.5, 1)
    spelled = dirichlet_shards(["0", "1"] * 20, 3, 0.5, 1)
    assert all(np.array_equal(a, b) for a, b in zip(numbers, spelled, strict=True))


def test_small_alpha_skews_labels_and_large_alpha_does_not() -> None:
    def skew(alpha: float) -> float:
        labels = np.array(["neg", "pos"] * 500)
        shares = [np.mean(labels[each] == "pos") for each in dirichlet_shards(labels.tolist(), 5, alpha, 3)]
        return float(np.ptp(shares))

    assert skew(0.05) > 0.8
    assert skew(1e4) < 0.05


def test_iid_sizes_differ_by_at_most_one() -> None:
    assert sorted(len(each) for each in iid_shards(11, 4, 0)) == [2, 3, 3, 3]


def test_as_many_shards_as_rows_gives_one_row_each() -> None:
    assert all(len(each) == 1 for each in dirichlet_shards(["a"] * 5, 5, 0.01, 0))


@pytest.mark.parametrize("partition", ["dirichlet", "iid"])
def test_shard_is_one_of_the_shards(partition: str) -> None:
    parts = [shard(LABELS, index, shards=3, partition=partition, alpha=0.3, seed=5) for index in range(3)]
    whole = dirichlet_shards(LABELS, 3, 0.3, 5) if partition == "dirichlet" else iid_shards(len(LABELS), 3, 5)
    assert all(np.array_equal(a, b) for a, b in zip(parts, whole, strict=True))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_shard_outside_is_refused(index: int) -> None:
    with pytest.raises(DataError, match=r"expected 0 to 2 of 3 shards"):
        shard(LABELS, index, shards=3, partition="iid")


def test_an_unknown_partition_is_refused() -> None:
    with pytest.raises(DataError, match="expected one of dirichlet, one-label, length, iid"):
        shard(LABELS, 0, shards=2, partition="random")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(DataError, match="alpha must be above 0"):
        dirichlet_shards(LABELS, 2, alpha, 0)


@pytest.mark.parametrize("shards", [0, -2])
def test_no_shard_is_refused(shards: int) -> None:
    with pytest.raises(DataError, match="at least 1 shard"):
        iid_shards(10, shards, 0)


@pytest.mark.parametrize("partition", ["dirichlet", "iid"])
def test_rows_are_dealt_by_their_labels(partition: str) -> None:
    assert partition_keys(partition, [("a",)] * 100, LABELS) == LABELS


def test_by_length_rows_are_dealt_in_quarters_from_short_to_long() -> None:
    texts = [("x" * length, "y" * 3) for length in (9, 1, 5, 5, 2, 7, 8, 3)]
    assert partition_keys("length", texts, ["a"] * 8) == [3, 0, 1, 2, 0, 2, 3, 1]
    assert partition_keys("length", [], []) == []


def test_by_length_texts_are_skewed_and_labels_are_not() -> None:
    rng = np.random.default_rng(0)
    texts = [("x" * int(length),) for length in rng.integers(1, 200, size=4000)]
    labels = ["neg", "pos"] * 2000
    keys = partition_keys("length", texts, labels)
    dealt = [shard(keys, index, shards=8, partition="length", alpha=0.3) for index in range(8)]
    means = [np.mean([len(texts[row][0]) for row in rows]) for rows in dealt]
    shares = [np.mean([labels[row] == "pos" for row in rows]) for rows in dealt if len(rows) > 200]
    assert max(means) - min(means) > 80
    assert max(abs(share - 0.5) for share in shares) < 0.1


def test_a_configuration_may_name_every_partition() -> None:
    assert [DataConfig(partition=each).partition for each in PARTITIONS] == list(PARTITIONS)


def test_one_label_shards_hold_one_label_each() -> None:
    labels = ["neg"] * 90 + ["pos"] * 30
    shards = one_label_shards(labels, 4, 3)
    assert sorted({labels[row] for row in rows}.pop() for rows in shards) == ["neg", "neg", "neg", "pos"]
    assert sorted(map(len, shards)) == [30, 30, 30, 30]


def test_one_label_shards_keep_labels_whole_where_devices_are_few() -> None:
    labels = ["a"] * 10 + ["b"] * 5 + ["c"] * 5
    shards = one_label_shards(labels, 2, 0)
    assert sorted(sorted({labels[row] for row in rows}) for rows in shards) == [["a"], ["b", "c"]]


def test_one_label_shards_differ_by_seed() -> None:
    first, again, other = (one_label_shards(LABELS, 4, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


LANGUAGES = ["en"] * 60 + ["de"] * 30 + ["fr"] * 10


def values_of(partition: str, shards: int, seed: int = 0) -> list[set[str]]:
    texts, labels = [("a text",)] * len(LANGUAGES), ["x"] * len(LANGUAGES)
    keys = partition_keys(partition, texts, labels, groups=LANGUAGES)
    parts = shards_of(keys, shards=shards, partition=partition, alpha=0.3, seed=seed)
    assert sorted(row for part in parts for row in part) == list(range(len(LANGUAGES)))
    return [{LANGUAGES[row] for row in part} for part in parts]


@given(shards=st.integers(1, 12), seed=st.integers(0, 3))
def test_by_a_column_every_device_has_one_value_or_every_value_one_device(shards: int, seed: int) -> None:
    found = values_of("by:lang", shards, seed)
    assert all(len(values) == 1 for values in found) or sum(map(len, found)) == 3
    assert found == values_of("by:lang", shards, seed)


def test_a_column_may_be_spread_by_dirichlet_shares() -> None:
    found = values_of("dirichlet:lang", 4)
    assert any(len(values) > 1 for values in found)


def test_the_column_is_in_the_word() -> None:
    assert [column_of(word) for word in (*PARTITIONS, "by:a:b", "dirichlet:lang")] == ["", "", "", "", "a:b", "lang"]


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (["en"] * 4, "every row has 'en' in column 'lang'"),
        (["a", "b", "c", "d"], "column 'lang' has another value in every row"),
    ],
)
def test_a_column_that_tells_nothing_is_refused(groups: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        partition_keys("by:lang", [("a",)] * 4, ["x"] * 4, groups=groups)
