"""Which accelerator a name stands for, and how those of one machine are dealt out."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.accelerators import check_device, chosen, dealt
from fedcore.core.errors import ConfigError

TWO = ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("wanted", "there", "device"),
    [
        ("auto", (), "cpu"),
        ("auto", TWO, "cuda:0"),
        ("auto", ("mps",), "mps"),
        ("auto", ("xpu:0",), "xpu:0"),
        ("auto", ("xpu:0", "cuda:0"), "cuda:0"),
        ("cpu", TWO, "cpu"),
        ("cuda", TWO, "cuda:0"),
        ("cuda:1", TWO, "cuda:1"),
        ("mps", ("mps",), "mps"),
        ("xpu", ("cuda:0", "xpu:0"), "xpu:0"),
    ],
)
def test_a_name_stands_for_one_device(wanted: str, there: tuple[str, ...], device: str) -> None:
    assert chosen(wanted, there) == device


@pytest.mark.parametrize(
    ("wanted", "there", "message"),
    [
        ("cuda", (), "--device: no cuda: PyTorch finds no accelerator here"),
        ("cuda:2", TWO, "--device: no cuda:2 on this machine, which has cuda:0, cuda:1; take one, auto or cpu"),
        ("cuda:1", ("cuda:0", "cuda:10"), "no cuda:1 on this machine"),
        ("mps", TWO, "no mps on this machine"),
    ],
)
def test_a_device_that_is_not_there_is_refused(wanted: str, there: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen(wanted, there)


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "mps:0", "cpu:0", "CUDA", "cuda:1 ", "auto,cpu"])
def test_a_name_of_no_device_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("fleet.class a: device: expected auto, cpu, cuda, mps or xpu")):
        check_device(name, "fleet.class a: device")


def of_class(*names: str) -> list[tuple[str, str]]:
    return [(name, "fleet.class a: device") for name in names]


def test_devices_are_dealt_in_turn() -> None:
    assert dealt(of_class("auto", "auto", "cpu", "auto", "cuda"), TWO) == (
        "cuda:0",
        "cuda:1",
        "cpu",
        "cuda:0",
        "cuda:1",
    )
    assert dealt(of_class("cuda:0", "cuda:0", "auto", "auto", "auto"), TWO) == (
        "cuda:0",
        "cuda:0",
        "cuda:1",
        "cuda:1",
        "cuda:0",
    )
    assert dealt(of_class("auto", "auto"), ()) == ("cpu", "cpu")
    with pytest.raises(ConfigError, match=r"fleet\.class a: device: no xpu on this machine"):
        dealt(of_class("auto", "xpu"), TWO)


@given(st.integers(1, 40), st.integers(1, 8))
def test_shares_differ_by_one_at_most(devices: int, accelerators: int) -> None:
    there = [f"cuda:{number}" for number in range(accelerators)]
    shares = Counter(dealt(of_class(*["auto"] * devices), there))
    assert sum(shares.values()) == devices
    assert max(shares.values()) - min(shares[name] for name in there) <= 1
