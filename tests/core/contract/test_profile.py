import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.contract.profile import DeviceProfile, check_name
from fedcore.core.errors import ConfigError

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-"


@given(st.text(LETTERS, min_size=1, max_size=63))
def test_names_of_small_letters_digits_and_dashes_pass(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "a" * 64, "A", "a_b", "a.b", "a b", "ä", "a\n", "../a", "²"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device name .*: expected 1-63 characters of a-z, 0-9 and '-'"):
        check_name(name)


def test_the_message_says_what_was_named() -> None:
    with pytest.raises(ConfigError, match="device class 'X'"):
        DeviceProfile(name="a", device_class="X", num_examples=1)


def test_no_limit_is_the_default() -> None:
    profile = DeviceProfile(name="a", device_class="b", num_examples=1)
    assert (profile.memory_mb, profile.slowdown, profile.uplink_mbps, profile.downlink_mbps) == (0.0, 1.0, 0.0, 0.0)


@pytest.mark.parametrize("network", ["", "5g", "wi-fi", "ethernet"])
def test_a_network_class_is_a_name_or_unknown(network: str) -> None:
    assert DeviceProfile(name="a", device_class="b", num_examples=1, network=network).network == network


@pytest.mark.parametrize("network", ["5G", "wi fi", "a" * 64, "\n"])
def test_other_network_classes_are_refused(network: str) -> None:
    with pytest.raises(ConfigError, match=r"network class .*: expected 1-63 characters"):
        DeviceProfile(name="a", device_class="b", num_examples=1, network=network)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_examples", 0, "device a has no training row; give it at least one"),
        ("num_examples", -1, "device a has no training row"),
        ("slowdown", 0.99, "device a: slowdown must be a number of at least 1, got 0.99"),
        ("slowdown", math.nan, "slowdown must be a number of at least 1, got nan"),
        ("slowdown", math.inf, "slowdown must be a number of at least 1, got inf"),
        ("memory_mb", -1.0, "memory_mb must be a number of at least 0, got -1"),
        ("memory_mb", math.nan, "memory_mb must be a number of at least 0, got nan"),
        ("uplink_mbps", -0.1, "uplink_mbps must be a number of at least 0"),
        ("downlink_mbps", math.inf, "downlink_mbps must be a number of at least 0"),
    ],
)
def test_limits_out_of_range_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeviceProfile(**{"name": "a", "device_class": "b", "num_examples": 1, key: value})
