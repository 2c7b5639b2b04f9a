import numpy as np
import pytest

from fedcore.core.config.toml import parse_config
from fedcore.core.data.partition import PARTITIONS, shard
from fedcore.core.errors import DataError
from fedcore.core.seeds import derive_seed
from fedcore.simulation.fleet.rows import assign_rows

LABELS = ["a", "b", "b", "c"] * 25


@pytest.mark.parametrize("partition", PARTITIONS)
def test_devices_hold_the_shards_of_a_real_fleet(partition: str) -> None:
    config = parse_config(f"[run]\nseed = 7\n[data]\npartition = '{partition}'\nshards = 9")
    shards = assign_rows(config, LABELS, 6)
    seed = derive_seed(7, "partition")
    for index, rows in enumerate(shards):
        expected = shard(LABELS, index, shards=9, partition=partition, alpha=config.data.alpha, seed=seed)
        assert rows.tolist() == expected.tolist()
    assert len(shards) == 6


def test_too_few_rows_or_shards_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="rows_per_device"):
        assign_rows(parse_config(""), LABELS, 101)
    with pytest.raises(DataError, match=r"data\.shards is 3"):
        assign_rows(parse_config("[data]\nshards = 3"), LABELS, 4)


@pytest.mark.parametrize("partition", ["dirichlet", "iid"])
def test_devices_may_draw_more_rows_than_there_are(partition: str) -> None:
    config = parse_config(f"[data]\npartition = '{partition}'\nalpha = 0.2\n[simulation]\nrows_per_device = 8")
    shards = assign_rows(config, LABELS, 300)
    assert {len(rows) for rows in shards} == {8}
    assert all(rows.min() >= 0 and rows.max() < len(LABELS) and (np.diff(rows) >= 0).all() for rows in shards)
    assert [rows.tolist() for rows in assign_rows(config, LABELS, 300)] == [rows.tolist() for rows in shards]
    kinds = [len({LABELS[row] for row in rows}) for rows in shards]
    assert (np.mean(kinds) < 2.0) == (partition == "dirichlet")  # label skew, or none


def test_devices_that_draw_rows_by_a_column_have_one_value_each() -> None:
    config = parse_config("[data]\npartition = 'by:lang'\n[simulation]\nrows_per_device = 8")
    shards = assign_rows(config, LABELS, 9)
    assert [len({LABELS[row] for row in rows}) for rows in shards] == [1] * 9
