"""What a precision by name stands for on a device."""

import pytest

from fedcore.core.errors import ConfigError
from fedcore.core.precision import resolved


@pytest.mark.parametrize(
    ("wanted", "device", "bfloat16", "expected"),
    [
        ("auto", "cpu", True, "float32"),
        ("auto", "cuda:0", True, "bfloat16"),
        ("auto", "cuda:1", False, "float16"),
        ("auto", "mps", True, "float16"),
        ("auto", "xpu:0", True, "bfloat16"),
        ("auto", "unheard-of:0", True, "float32"),
        ("float32", "cuda:0", True, "float32"),
        ("float16", "cpu", True, "float16"),
        ("bfloat16", "cpu", False, "bfloat16"),  # emulated, and right
    ],
)
def test_a_name_stands_for_what_the_device_is_good_at(wanted: str, device: str, bfloat16: bool, expected: str) -> None:
    assert resolved(wanted, device, bfloat16=bfloat16) == expected


def test_what_a_device_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="cuda:0 has no bfloat16; take auto, or float32, or float16"):
        resolved("bfloat16", "cuda:0", bfloat16=False)
    with pytest.raises(ConfigError, match=r"expected auto or one of float32, bfloat16, float16; got 'int8'"):
        resolved("int8", "cpu", bfloat16=True)
