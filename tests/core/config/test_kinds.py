from typing import Any

import pytest

from fedcore.core.config.kinds import called, coerce, item_kind, options
from fedcore.core.errors import ConfigError

NUMBERS, WORDS = tuple[float, ...], tuple[str, ...]


@pytest.mark.parametrize(
    ("value", "kind", "made"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (-(2**53) + 1, float, -9007199254740991.0),
        (0.5, float | None, 0.5),
        (True, bool, True),
        ("", str, ""),
        ([], NUMBERS, ()),
        ([1, 0.5], NUMBERS, (1.0, 0.5)),
        ("a", str | WORDS, "a"),
        (["a", "b"], str | WORDS, ("a", "b")),
    ],
)
def test_a_value_becomes_what_its_key_holds(value: Any, kind: Any, made: Any) -> None:
    became = coerce(value, kind, "here")
    assert became == made and type(became) is type(made)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "here: expected a whole number, got True"),
        (True, float, "here: expected a number, got True"),
        ("5", float, "here: expected a number, got '5'"),
        (2.0, int, "here: expected a whole number, got 2.0"),
        (2**53, float, "here: expected a number, got 9007199254740992"),
        (1, bool, "here: expected true or false, got 1"),
        (7, str, "here: expected text in quotes, got 7"),
        (7, str | None, "here: expected text in quotes, got 7"),
        (4, NUMBERS, "here: expected a list, got 4"),
        (["4"], NUMBERS, "here: expected a number, got '4'"),
        ([1], str | WORDS, "here: expected text in quotes or a list, got [1]"),
    ],
)
def test_another_type_is_refused_in_words_of_toml(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        coerce(value, kind, "here")
    assert str(caught.value) == message


def test_none_is_no_option() -> None:
    assert options(int | None) == [int]
    assert options(str | WORDS) == [str, WORDS]
    assert options(float) == [float]
    assert item_kind(WORDS) is str and item_kind(str) is None
    assert called(str | WORDS) == "text in quotes or a list"
