"""Names of rank blocks: written and read alike; anything else is refused."""

import pytest

from fedcore.core.errors import ProtocolError
from fedcore.protos.block_name import BlockName


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (BlockName(low=0, high=4), "0-4"),
        (BlockName(low=8, high=16, ring=0), "8-16/0"),
        (BlockName(low=0, high=2, ring=13), "0-2/13"),
    ],
)
def test_a_name_is_read_as_it_was_written(name: BlockName, text: str) -> None:
    assert str(name) == text and BlockName.parse(text) == name


@pytest.mark.parametrize("text", ["", "head", "0", "0-", "-4", "0-4/", "0-4/x", "0-4/1/2", "٣-4", "0-4 ", "0-9999999"])
def test_another_text_is_no_name(text: str) -> None:
    with pytest.raises(ProtocolError, match="names no rank block"):
        BlockName.parse(text)
