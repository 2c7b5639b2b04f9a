"""JSON with orjson: what comes back is what was written, and what the standard library would have written is read."""

import json
import math
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.contract.outcome import Status
from fedcore.server.run.compact_json import compact, exact, indented

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_comes_back_has_the_same_bits(value: object) -> None:
    for written in (compact(value), indented(value)):
        assert repr(json.loads(written)) == repr(value)
    assert compact(value).count(b"\n") == 0 and indented(value).endswith(b"\n")


def test_the_layout_is_the_standard_librarys() -> None:
    value = {"b": [1, {"x": 0.25}], "a": [], "c": {}, "d": None, "é": "ü\u2028"}
    assert compact(value).decode() == json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    assert indented(value).decode() == json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def test_numbers_that_json_lacks_become_null_and_numpys_are_numbers() -> None:
    value = [math.nan, math.inf, np.float64(0.1), np.float64("nan"), 2**70, Status.LOST, MappingProxyType({1: (2, 3)})]
    assert json.loads(compact(value)) == [None, None, 0.1, None, 2**70, "lost", {"1": [2, 3]}]
    assert json.loads(indented(value)) == json.loads(compact(value))


@given(VALUES)
def test_exact_text_gives_back_what_json_lacks_too(value: object) -> None:
    assert json.loads(exact(value)) == value
    held = {"a": value, "b": [math.inf, value, None], "c": {"d": -math.inf, "e": None}}
    assert json.loads(exact(held)) == held
    assert math.isnan(json.loads(exact({"x": {"y": math.nan}}))["x"]["y"])


def test_anything_else_is_an_error() -> None:
    with pytest.raises(TypeError):
        compact({"x": object()})
