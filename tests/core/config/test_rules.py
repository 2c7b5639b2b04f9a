import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.rules import (
    Rule,
    above,
    at_least,
    offered,
    one_of,
    valid_address,
    valid_name,
    whole_number,
    within,
)
from fedcore.core.errors import ConfigError

NUMBER_RULES = (
    whole_number(0),
    whole_number(2),
    at_least(0),
    at_least(1),
    above(0),
    within(0, 1, "(]"),
    within(0, 1, "[)"),
    within(0.001, 1.0),
    within(0, 2**63, "[)"),
)


def meets(rule: Rule, value: Any) -> bool:
    try:
        rule.check("here", value)
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (whole_number(1), 0, "here must be at least 1 and below 2**31, got 0"),
        (whole_number(0), 2**31, "here must be at least 0 and below 2**31, got 2147483648"),
        (at_least(0), -0.5, "here must be at least 0, got -0.5"),
        (at_least(1), math.inf, "here must be at least 1, got inf"),
        (above(0), 0.0, "here must be above 0, got 0.0"),
        (above(0), math.nan, "here must be above 0, got nan"),
        (within(0, 1, "(]"), 0.0, "here must be in (0, 1], got 0.0"),
        (within(0, 1, "[)"), 1.0, "here must be in [0, 1), got 1.0"),
        (within(0.0, 0.9), math.nan, "here must be in [0.0, 0.9], got nan"),
        (within(0, 2**63, "[)"), -1, "here must be in [0, 2**63), got -1"),
        (one_of("a", "b"), "c", "here: expected one of a, b; got 'c'"),
        (valid_name(), "A b", "here 'A b': expected 1-63 characters of a-z, 0-9 and '-'"),
        (valid_name(), "", "here '': expected 1-63 characters of a-z, 0-9 and '-'"),
        (valid_address("a:1"), "x", "here: expected HOST:PORT, for example a:1, got 'x'"),
    ],
)
def test_a_broken_rule_is_named_with_what_came(rule: Rule, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule.check("here", value)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (whole_number(1), "at least 1"),
        (at_least(0), "at least 0"),
        (above(0.5), "above 0.5"),
        (within(0.0, 0.9), "[0.0, 0.9]"),
        (within(0, 2**63, "[)"), "[0, 2**63)"),
        (one_of("a", "b"), "`a`, `b`"),
        (offered(("a", "b")), ""),
    ],
)
def test_a_rule_has_words_for_the_page(rule: Rule, words: str) -> None:
    assert rule.words == words


@pytest.mark.parametrize("rule", NUMBER_RULES, ids=lambda rule: rule.words)
@given(
    value=st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0, 1, 2, 2**31, 2**63])
)
def test_a_number_meets_a_rule_as_it_meets_its_schema(rule: Rule, value: float) -> None:
    assert jsonschema.Draft7Validator(rule.schema).is_valid(value) == meets(rule, value)


@given(st.text(st.sampled_from("ab-09AZ_ é"), max_size=5) | st.text(max_size=70))
def test_a_name_meets_its_pattern(name: str) -> None:
    for rule in (valid_name(), valid_name(optional=True)):
        if meets(rule, name):
            assert jsonschema.Draft7Validator(rule.schema).is_valid(name)
        elif "\n" not in name:  # Python's $ stands before a newline at the end as well; other engines' does not
            assert not jsonschema.Draft7Validator(rule.schema).is_valid(name)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:8443", "edge.example:65535", "a:080"])
def test_an_address_meets_its_pattern(address: str) -> None:
    assert meets(valid_address("a:1"), address)
    assert jsonschema.Draft7Validator(valid_address("a:1").schema).is_valid(address)


@pytest.mark.parametrize("address", ["", "a", ":80", "::1:80", "a:http", "a b:1", "http://a:1"])
def test_what_is_no_address_does_not_meet_its_pattern(address: str) -> None:
    assert not jsonschema.Draft7Validator(valid_address("a:1").schema).is_valid(address)


def test_an_offered_name_is_one_of_many() -> None:
    rule = offered(("a", "b"))
    assert meets(rule, "mine")
    assert rule.schema == {"anyOf": [{"enum": ["a", "b"]}, {"type": "string"}]}
