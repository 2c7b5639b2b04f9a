import pytest

from fedcore.core.errors import ConfigError
from fedcore.core.open_table import OpenTable


def table() -> OpenTable[int]:
    return OpenTable("thing", {"one": 1, "two": 2})


def test_it_reads_as_one_mapping_shipped_entries_first() -> None:
    things = table()
    things.add("a-third_1", 3)
    assert list(things.items()) == [("one", 1), ("two", 2), ("a-third_1", 3)]
    assert len(things) == 3
    assert "a-third_1" in things and "four" not in things
    assert things.own == {"a-third_1": 3}


def test_a_shipped_entry_is_never_replaced() -> None:
    things = table()
    for replace in (False, True):
        with pytest.raises(ConfigError, match=r"^thing 'one' comes with fedcore; choose another name$"):
            things.add("one", 3, replace=replace)
    with pytest.raises(KeyError):
        things.remove("one")
    assert things["one"] == 1


def test_an_entry_of_ones_own_is_replaced_on_request_alone() -> None:
    things = table()
    things.add("mine", 3)
    with pytest.raises(ConfigError, match=r"^thing 'mine' is registered already; choose another name$"):
        things.add("mine", 4)
    things.add("mine", 5, replace=True)
    assert things["mine"] == 5
    things.remove("mine")
    assert dict(things) == {"one": 1, "two": 2}


@pytest.mark.parametrize("name", ["", "Mine", "my name", "-mine", "ä", "x" * 64, 3, None, print])
def test_a_malformed_name_is_refused(name: object) -> None:
    with pytest.raises(ConfigError, match=r"^thing: expected a name in quotes, of 1-63 characters"):
        table().add(name, 3)  # type: ignore[arg-type]
