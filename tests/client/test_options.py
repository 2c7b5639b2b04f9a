"""Which part of the rows a device takes, and how much memory, in words on a command line."""

import pytest

from fedcore.client.options import parse_memory, parse_shard
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize(("text", "shard"), [("1/1", (1, 1)), ("3/6", (3, 6)), ("06/6", (6, 6))])
def test_a_shard_is_an_index_out_of_a_count(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text) == shard


@pytest.mark.parametrize("text", ["", "3", "0/6", "7/6", "-1/6", "a/b", "1/", "/2", "1/2/3", "1.0/2"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="expected INDEX/COUNT with 1 <= INDEX <= COUNT, for example 3/6"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("text", "memory"),
    [("0", (0.0, 0)), ("512", (512.0, 0)), ("1.5e3", (1500.0, 0)), ("auto", (0.0, 1)), ("auto/3", (0.0, 3))],
)
def test_memory_is_a_number_or_a_part_of_what_is_free(text: str, memory: tuple[float, int]) -> None:
    assert parse_memory(text) == memory


@pytest.mark.parametrize("text", ["", "much", "-1", "nan", "inf", "auto/", "auto/0", "auto/x", "512/2"])
def test_other_memory_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="expected MiB of at least 0, auto, or auto/3 for a third of it"):
        parse_memory(text)
