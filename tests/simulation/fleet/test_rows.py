import numpy as np
import pytest

from fedcore.core.config.toml import parse_config
from fedcore.core.data.partition import PARTITIONS, shard
from fedcore.core.errors import DataError
from fedcore.core.seeds import derive_seed
from fedcore.simulation.fleet.rows import deal_rows

LABELS = ["a", "b", "b", "c"] * 25


@pytest.mark.parametrize("partition", PARTITIONS)
def test_devices_hold_the_shards_of_a_real_fleet(partition: str) -> None:
    config = parse_config(f"[run]\nseed = 7\n[data]\npartition = '{partition}'\nshards = 9")
    dealt = deal_rows(config, LABELS, 6)
    seed = derive_seed(7, "partition")
    for index, rows in enumerate(dealt):
        expected = shard(LABELS, index, shards=9, partition=partition, alpha=config.data.alpha, seed=seed)
        assert rows.tolist() == expected.tolist()
    assert len(dealt) == 6


def test_too_few_rows_or_shards_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match="rows_per_device"):
        deal_rows(parse_config(""), LABELS, 101)
    with pytest.raises(DataError, match=r"data\.shards is 3"):
        deal_rows(parse_config("[data]\nshards = 3"), LABELS, 4)


@pytest.mark.parametrize("partition", ["dirichlet", "iid"])
def test_devices_may_draw_more_rows_than_there_are(partition: str) -> None:
    config = parse_config(f"[data]\npartition = '{partition}'\nalpha = 0.2\n[simulation]\nrows_per_device = 8")
    dealt = deal_rows(config, LABELS, 300)
    assert {len(rows) for rows in dealt} == {8}
    assert all(rows.min() >= 0 and rows.max() < len(LABELS) and (np.diff(rows) >= 0).all() for rows in dealt)
    assert [rows.tolist() for rows in deal_rows(config, LABELS, 300)] == [rows.tolist() for rows in dealt]
    kinds = [len({LABELS[row] for row in rows}) for rows in dealt]
    assert (np.mean(kinds) < 2.0) == (partition == "dirichlet")  # label skew, or none
