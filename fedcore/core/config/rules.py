"""Rules for the value of a key: each has a check, words for the page, and keywords for JSON Schema.

A rule is in the `Annotated` type of its key, see `fedcore.core.config.tables`. The JSON Schema never refuses a value
that the rule allows. Only the check covers what a schema cannot express (numbers that ascend, a speed below another).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedcore.core.accelerators import PATTERN, check_device
from fedcore.core.config.address import check_address
from fedcore.core.contract.profile import NAME, check_name, check_network
from fedcore.core.errors import ConfigError

COUNT_LIMIT = 2**31  # counts travel as unsigned 32-bit numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One demand on a value. Rules are made once, by the functions below and in `fedcore.core.config.list_rules`."""

    check: Callable[
        [str, Any], object
    ]  # (key, value); raises ConfigError with the key, the expected value and the value
    words: str = ""  # the demand in a table's column, such as "at least 1"; empty where the meaning says it
    schema: Mapping[str, Any]  # the demand as keywords of JSON Schema


def whole_number(low: int) -> Rule:
    """Return the rule of whole numbers in [low, 2**31)."""
    schema = {"minimum": low, "maximum": COUNT_LIMIT - 1}
    expected = f"at least {low} and below 2**31"
    return _number(lambda value: low <= value < COUNT_LIMIT, expected, words=f"at least {low}", schema=schema)


# The comparisons below are written so that NaN, which compares false with any number, is refused too.


def at_least(low: float) -> Rule:
    """Return the rule of finite numbers in [low, infinity)."""
    return _number(lambda value: value >= low and math.isfinite(value), f"at least {low:g}", schema={"minimum": low})


def finite() -> Rule:
    """Return the rule of finite numbers."""
    return _number(math.isfinite, "finite", schema={})


def above(low: float) -> Rule:
    """Return the rule of finite numbers in (low, infinity)."""
    schema = {"exclusiveMinimum": low}
    return _number(lambda value: value > low and math.isfinite(value), f"above {low:g}", schema=schema)


def within(low: float, high: float, ends: str = "[]") -> Rule:
    """Return the rule of numbers between two ends; `ends` says which of them belong: "[]", "(]" or "[)"."""
    lowest = "exclusiveMinimum" if ends[0] == "(" else "minimum"
    highest = "exclusiveMaximum" if ends[1] == ")" else "maximum"
    shown = f"2**{int(high).bit_length() - 1}" if high >= COUNT_LIMIT else high  # a large power of two

    def fits(value: float) -> bool:
        not_below = value > low if ends[0] == "(" else value >= low
        return not_below and (value < high if ends[1] == ")" else value <= high)

    return _number(fits, f"in {ends[0]}{low}, {shown}{ends[1]}", schema={lowest: low, highest: high})


def one_of(*choices: str) -> Rule:
    """Return the rule of text that is one of `choices`."""

    def check(where: str, value: str) -> None:
        if value not in choices:
            raise ConfigError(f"{where}: expected one of {', '.join(choices)}; got {value!r}")

    return Rule(check=check, words=", ".join(f"`{choice}`" for choice in choices), schema={"enum": list(choices)})


def one_of_or(*choices: str, columns: Sequence[str]) -> Rule:
    """Return the rule of text that is one of `choices`, or the name of a column after one of `columns` and a colon."""
    words = [*(f"`{choice}`" for choice in choices), *(f"`{kind}:COLUMN`" for kind in columns)]

    def check(where: str, value: str) -> None:
        kind, _, column = value.partition(":")
        if value not in choices and not (kind in columns and column):
            raise ConfigError(f"{where}: expected one of {', '.join(words).replace('`', '')}; got {value!r}")

    pattern = f"^({'|'.join(columns)}):."
    return Rule(check=check, words=", ".join(words), schema={"anyOf": [{"enum": list(choices)}, {"pattern": pattern}]})


def offered(names: Sequence[str]) -> Rule:
    """Return the rule of names that editors offer; any name passes here, their table refuses unknown ones."""
    return Rule(check=lambda where, value: None, schema={"anyOf": [{"enum": list(names)}, {"type": "string"}]})


def valid_name(*, optional: bool = False) -> Rule:
    """Return the rule of names: 1 to 63 characters of a-z, 0-9 and "-"; empty text passes where `optional`."""
    check = check_network if optional else check_name
    pattern = f"^{NAME.pattern}$" + ("|^$" if optional else "")
    return Rule(check=lambda where, value: check(value, where), schema={"pattern": pattern})


def valid_address(example: str) -> Rule:
    """Return the rule of HOST:PORT, where port 0 stands for any free one; an IPv6 address stands in brackets."""
    return Rule(
        check=lambda where, value: check_address(value, where, example=example, any_port=True),
        schema={"pattern": r"^(\[[^\s,/\[\]]+\]|[^\s:,/\[\]]+):[0-9]+$"},
    )


def device_name() -> Rule:
    """Return the rule of names of accelerators, whether this machine has them or not."""
    return Rule(check=lambda where, value: check_device(value, where), schema={"pattern": f"^({PATTERN})$"})


def _number(fits: Callable[[float], bool], expected: str, *, schema: Mapping[str, Any], words: str = "") -> Rule:
    def check(where: str, value: float) -> None:
        if not fits(value):
            raise ConfigError(f"{where} must be {expected}, got {value}")

    return Rule(check=check, words=words or expected.removeprefix("in "), schema=schema)
