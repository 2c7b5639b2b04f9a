import asyncio

import pytest

from fedcore.core.boundary import LONGEST, Boundary, reason, without_advice
from fedcore.core.errors import ConfigError, DataError

ADVICE = [
    (
        "You are trying to load a dataset that was saved using `save_to_disk`. Please use `load_from_disk` instead.",
        "You are trying to load a dataset that was saved using `save_to_disk`",
    ),
    ("`tiktoken` is required to read it. Install it with `pip install tiktoken`.", "`tiktoken` is required to read it"),
    (
        "The `output_attentions` attribute is not supported when using the `attn_implementation` set to sdpa. "
        "Please set it to 'eager' instead.",
        "The `output_attentions` attribute is not supported when using the `attn_implementation` set to sdpa",
    ),
    (
        "a/b is no valid model identifier\nIf this is a private repository, make sure to pass a token",
        "a/b is no valid model identifier",
    ),
    (
        "x contains custom code. Please pass the argument `trust_remote_code=True` to allow it to be run.",
        "x contains custom code",
    ),
    ("shapes differ, use `ignore_mismatched_sizes=True` to go on", "shapes differ"),
    ("Please install it", ""),
    ("", ""),
    ("Config 'x' not found. Available: ['a', 'b']", "Config 'x' not found. Available: ['a', 'b']"),
    ("You are trying to set a size of 3", "You are trying to set a size of 3"),
    ("first line\nsecond line", "first line"),
]


@pytest.mark.parametrize(("message", "left"), ADVICE)
def test_advice_to_callers_of_a_library_is_left_out(message: str, left: str) -> None:
    assert without_advice(message) == left


def test_a_long_message_is_cut() -> None:
    assert without_advice("x" * 1000) == "x" * LONGEST


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested too deep"),
        (MemoryError(), "more than fits into memory"),
        (OSError(13, "Permission denied", "f"), "Permission denied"),
        (OSError("no model here. Please look elsewhere."), "no model here"),
        (KeyError("gelu_9"), "nothing is called 'gelu_9'"),
        (ValueError("Expected: x."), "Expected: x"),
        (ValueError(), "ValueError"),
        (TypeError("f() got an unexpected argument"), "TypeError: f() got an unexpected argument"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
    ],
)
def test_a_cause_is_told_in_a_line(cause: BaseException, words: str) -> None:
    assert reason(cause) == words


@pytest.mark.parametrize("cause", [RecursionError("deep"), KeyError("k"), RuntimeError("r"), MemoryError()])
def test_any_fault_becomes_the_boundarys_error(cause: Exception) -> None:
    with pytest.raises(DataError) as caught, Boundary(DataError, "a.csv", remedy="save it anew"):
        raise cause
    assert str(caught.value) == f"a.csv: {reason(cause)}; save it anew"
    assert caught.value.__cause__ is cause, "a programming error is still to be found"


def test_the_row_reached_is_named() -> None:
    with pytest.raises(DataError, match=r"^a\.csv: row 7: nested too deep$"), Boundary(DataError, "a.csv") as at:
        for row in range(1, 9):
            at.row = row
            if row == 7:
                raise RecursionError


def test_an_error_of_ours_passes() -> None:
    with pytest.raises(ConfigError, match=r"^as it is$"), Boundary(DataError, "a.csv"):
        raise ConfigError("as it is")


@pytest.mark.parametrize("request_", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
def test_a_request_to_stop_passes(request_: BaseException) -> None:
    with pytest.raises(type(request_)), Boundary(DataError, "a.csv"):
        raise request_


def test_what_shall_pass_does() -> None:
    with pytest.raises(OSError, match="full"), Boundary(DataError, "a.csv", passing=(OSError,)):
        raise OSError(28, "full")
    with pytest.raises(DataError), Boundary(DataError, "a.csv", passing=(OSError,)):
        raise KeyError("k")


def test_a_library_that_panics_is_a_fault() -> None:
    panic = type("PanicException", (BaseException,), {})("index out of bounds")
    with pytest.raises(DataError, match=r"a\.csv: index out of bounds"), Boundary(DataError, "a.csv"):
        raise panic


def test_nothing_happens_without_a_fault() -> None:
    with Boundary(DataError, "a.csv") as at:
        assert at.row == 0
