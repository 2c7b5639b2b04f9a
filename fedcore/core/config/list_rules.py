"""Rules, as in `fedcore.core.config.rules`, for keys with lists as values."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedcore.core.config.rules import Rule
from fedcore.core.errors import ConfigError

NOT_ONE_ITEM = {"not": {"type": "array", "minItems": 1, "maxItems": 1}}


def each(rule: Rule) -> Rule:
    """Return the rule of lists in which every item meets `rule`."""

    def check(where: str, value: Sequence[Any]) -> None:
        for item in value:
            rule.check(where, item)

    return Rule(check=check, words=f"each {rule.words}", schema={"items": rule.schema})


def ascending(item_name: str) -> Rule:
    """Return the rule of items that ascend without duplicates; `item_name` names them in the error."""
    expected = f"ascending, different {item_name}"
    return _list(
        lambda items: list(items) == sorted(set(items)), expected, words="ascending", schema={"uniqueItems": True}
    )


def filled(item_name: str) -> Rule:
    """Return the rule of lists that are not empty; `item_name` names an item in the error."""

    def check(where: str, value: Sequence[Any]) -> None:
        if not value:
            raise ConfigError(f"{where}: expected at least one {item_name}")

    return Rule(check=check, words="one or more", schema={"minItems": 1})


def four_weights() -> Rule:
    """Return the rule of exactly four items."""

    def check(where: str, value: Sequence[float]) -> None:
        if len(value) != 4:
            raise ConfigError(f"{where}: expected four weights, got {len(value)}")

    return Rule(check=check, words="four", schema={"minItems": 4, "maxItems": 4})


def one_or_two() -> Rule:
    """Return the rule of one column, or a list of one or two."""

    def check(where: str, value: str | Sequence[str]) -> None:
        if not isinstance(value, str) and len(value) not in (1, 2):
            raise ConfigError(f"{where}: expected one column or a pair, got {len(value)} columns")

    return Rule(
        check=check, words="one or two", schema={"minItems": 1, "maxItems": 2}
    )  # keywords that do not apply to text


def different_labels() -> Rule:
    """Return the rule of no label, or two and more different ones."""
    return _list(
        lambda items: len(set(items)) == len(items) != 1,
        "at least two different labels",
        words="two or more, or none",
        schema={"uniqueItems": True, **NOT_ONE_ITEM},
    )


def speed_range() -> Rule:
    """Return the rule of no speed, or a slowest and a fastest one, both above 0 and finite."""

    def check(where: str, value: Sequence[float]) -> None:
        if value and not (len(value) == 2 and 0 < value[0] <= value[1] < math.inf):
            expected = "a slowest and a fastest speed above 0, in this order"
            raise ConfigError(f"{where}: expected {expected}; got {list(value)}")

    schema = {"maxItems": 2, "items": {"exclusiveMinimum": 0}, **NOT_ONE_ITEM}
    return Rule(check=check, words="two above 0, or none", schema=schema)


def growing_tiers() -> Rule:
    """Return the rule of edges per tier from the top down: a tier has at least one for every edge above it."""

    def check(where: str, value: Sequence[int]) -> None:
        if list(value) != sorted(value):
            raise ConfigError(f"{where}: a tier needs an edge at least for every one above it, got {list(value)}")

    return Rule(check=check, words="no tier smaller than the one above it", schema={})


def _list(fits: Callable[[Sequence[Any]], bool], expected: str, *, words: str, schema: Mapping[str, Any]) -> Rule:
    def check(where: str, value: Sequence[Any]) -> None:
        if not fits(value):
            raise ConfigError(f"{where}: expected {expected}, got {list(value)}")

    return Rule(check=check, words=words, schema=schema)
