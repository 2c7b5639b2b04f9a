from dataclasses import MISSING, dataclass
from typing import Annotated, Any

import pytest

from fedcore.core.config.keys import Key, Unit, check_keys, keys_of
from fedcore.core.config.list_rules import each
from fedcore.core.config.rules import above, whole_number
from fedcore.core.config.tables import TABLES, ClassConfig, Config
from fedcore.core.errors import ConfigError

STEPS, WAIT = each(whole_number(1)), above(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """[table]: for these tests."""

    steps: Annotated[tuple[int, ...], STEPS, "steps to choose from"]
    wait_s: Annotated[float | None, WAIT, Unit("s"), "how long to wait; left out, for ever"] = None


def test_a_key_is_read_from_its_annotation() -> None:
    assert dict(keys_of(Table)) == {
        "steps": Key(
            name="steps",
            kind=tuple[int, ...],
            default=MISSING,
            meaning="steps to choose from",
            rules=(STEPS,),
            unit="",
        ),
        "wait_s": Key(
            name="wait_s",
            kind=float | None,
            default=None,
            meaning="how long to wait; left out, for ever",
            rules=(WAIT,),
            unit="s",
        ),
    }
    assert [key.needed for key in keys_of(Table).values()] == [True, False]


def test_a_broken_rule_is_named_with_its_key() -> None:
    check_keys(Table(steps=(1,), wait_s=0.5), "table.")
    check_keys(Table(steps=()), "table.")  # None is not checked
    with pytest.raises(ConfigError, match=r"^table\.steps must be at least 1 and below 2\*\*31, got 0$"):
        check_keys(Table(steps=(3, 0), wait_s=-1.0), "table.")
    with pytest.raises(ConfigError, match=r"^class x: wait_s must be above 0, got -1\.0$"):
        check_keys(Table(steps=(3,), wait_s=-1.0), "class x: ")


@pytest.mark.parametrize("hint", [int, Annotated[int, whole_number(1)], Annotated[int, "one", "two"]])
def test_a_key_without_one_meaning_is_a_mistake(hint: Any) -> None:
    table = dataclass(type("Bad", (), {"__annotations__": {"size": hint}}))
    with pytest.raises(TypeError, match=r"size: expected Annotated\[type, rules\.\.\., meaning\]"):
        keys_of(table)


@pytest.mark.parametrize("table", [*TABLES.values(), ClassConfig])
def test_every_key_says_in_one_line_what_it_means(table: type[Any]) -> None:
    for key in keys_of(table).values():
        assert key.meaning and key.meaning == key.meaning.strip() and "\n" not in key.meaning
        assert not key.meaning.endswith(".") and "|" not in key.meaning
        assert (key.default is None) <= ("eft out" in key.meaning or "`auto`" in key.meaning), key.name


@pytest.mark.parametrize(("suffix", "unit"), [("_s", "s"), ("_mbps", "Mbit/s"), ("_mb", "MiB")])
def test_a_key_that_names_a_unit_has_it(suffix: str, unit: str) -> None:
    keys = [key for table in (*TABLES.values(), ClassConfig) for key in keys_of(table).values()]
    assert {key.unit for key in keys if key.name.endswith(suffix)} == {unit}


def test_the_tables_are_those_of_a_configuration() -> None:
    assert {name: type(getattr(Config(), name)) for name in TABLES} == TABLES
    assert [*TABLES, "classes"] == list(Config.__dataclass_fields__)
