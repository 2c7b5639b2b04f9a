"""Which part of the rows a device takes, in words on a command line."""

import pytest

from fedcore.client.options import parse_shard
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/6", (3, 6)), ("06/6", (6, 6))])
def test_a_shard_is_an_index_out_of_a_count(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text) == shard


@pytest.mark.parametrize("text", ["", "3", "0/6", "7/6", "-1/6", "a/b", "1/", "/2", "1/2/3", "1.0/2"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="expected INDEX/COUNT with 1 <= INDEX <= COUNT, for example 3/6"):
        parse_shard(text)
