"""What PyTorch is asked about the accelerators of a machine."""

from types import SimpleNamespace

import pytest
import torch

from fedcore.core.errors import ConfigError
from fedcore.nn.accelerator.present import accelerators, device_for


def has(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, xpu: int = 0, mps: bool = False) -> None:
    for name, count in (("cuda", cuda), ("xpu", xpu)):
        module = SimpleNamespace(is_available=lambda count=count: count > 0, device_count=lambda count=count: count)
        monkeypatch.setattr(torch, name, module)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


def test_all_that_there_is_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    assert accelerators() == ()
    has(monkeypatch, cuda=2, xpu=1)
    assert accelerators() == ("cuda:0", "cuda:1", "xpu:0")
    has(monkeypatch, mps=True)
    assert accelerators() == ("mps",)


def test_a_process_takes_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch)
    assert device_for("auto") == device_for("cpu") == "cpu"
    with pytest.raises(ConfigError, match="--device: no cuda: PyTorch finds no accelerator here"):
        device_for("cuda")
    has(monkeypatch, cuda=2)
    assert device_for("auto") == device_for("cuda:0") == "cuda:0"
