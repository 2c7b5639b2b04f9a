import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.list_rules import (
    ascending,
    different_labels,
    each,
    filled,
    four_weights,
    growing_tiers,
    one_or_two,
    speed_range,
)
from fedcore.core.config.rules import Rule, at_least, whole_number
from fedcore.core.errors import ConfigError

RULES: list[tuple[Rule, list[Any], list[tuple[Any, str]]]] = [  # rule, good values, bad values with their messages
    (each(whole_number(1)), [(), (1, 2)], [((2, 0, -1), "here must be at least 1 and below 2**31, got 0")]),
    (
        ascending("ranks"),
        [(), (1,), (1, 3)],
        [
            ((3, 1), "here: expected ascending, different ranks, got [3, 1]"),
            ((1, 1), "here: expected ascending, different ranks, got [1, 1]"),
        ],
    ),
    (filled("rank"), [(1,)], [((), "here: expected at least one rank")]),
    (four_weights(), [(0, 0, 0, 0)], [((1, 1, 1), "here: expected four weights, got 3")]),
    (
        one_or_two(),
        ["text", "three", ("a",), ("a", "b")],
        [
            ((), "here: expected one column or a pair, got 0 columns"),
            (("a", "b", "c"), "here: expected one column or a pair, got 3 columns"),
        ],
    ),
    (
        different_labels(),
        [(), ("a", "b")],
        [
            (("a",), "here: expected at least two different labels, got ['a']"),
            (("a", "a"), "here: expected at least two different labels, got ['a', 'a']"),
        ],
    ),
    (
        speed_range(),
        [(), (1.0, 1.0), (0.1, 9.0)],
        [
            (bounds, f"here: expected a slowest and a fastest speed above 0, in this order; got {list(bounds)}")
            for bounds in ((1.0,), (2.0, 1.0), (0.0, 1.0), (1.0, math.inf), (math.nan, 1.0), (1.0, 2.0, 3.0))
        ],
    ),
    (
        growing_tiers(),
        [(), (1,), (2, 2, 5)],
        [((2, 1), "here: a tier needs an edge at least for every one above it, got [2, 1]")],
    ),
]


@pytest.mark.parametrize(("rule", "value"), [(rule, value) for rule, good, _ in RULES for value in good])
def test_what_a_rule_takes_its_schema_takes(rule: Rule, value: Any) -> None:
    rule.check("here", value)
    assert jsonschema.Draft7Validator(rule.schema).is_valid(list(value) if isinstance(value, tuple) else value)


@pytest.mark.parametrize(("rule", "value", "message"), [(rule, *each) for rule, _, bad in RULES for each in bad])
def test_a_broken_rule_is_named_with_what_came(rule: Rule, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule.check("here", value)
    assert str(caught.value) == message


@pytest.mark.parametrize("rule", [rule for rule, _, _ in RULES], ids=lambda rule: type(rule).__name__)
@given(st.lists(st.integers(-1, 4) | st.floats(-1, 4), max_size=5))
def test_no_schema_refuses_what_its_rule_takes(rule: Rule, value: list[float]) -> None:
    try:
        rule.check("here", tuple(value))
    except ConfigError:
        return
    assert jsonschema.Draft7Validator(rule.schema).is_valid(value)


def test_the_words_say_how_many_and_which() -> None:
    words = [rule.words for rule, _, _ in RULES]
    assert words == [
        "each at least 1",
        "ascending",
        "one or more",
        "four",
        "one or two",
        "two or more, or none",
        "two above 0, or none",
        "no tier smaller than the one above it",
    ]
    assert each(at_least(0)).schema == {"items": {"minimum": 0}}
