"""Clocks that wait for an accelerator."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fedcore.nn.accelerator.clock import synchronised


def test_a_clock_of_the_cpu_is_read_as_it_is() -> None:
    def clock() -> float:
        return 1.0

    assert synchronised(clock, "cpu") is clock


@pytest.mark.parametrize(("device", "waits"), [("cuda:1", (torch.device("cuda:1"),)), ("mps", ())])
def test_work_is_awaited_before_the_clock_is_read(
    device: str, waits: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    module = SimpleNamespace(synchronize=lambda *where: seen.append(where))
    monkeypatch.setattr(torch, "get_device_module", lambda found: module if found == torch.device(device) else None)

    def clock() -> float:
        seen.append("clock")
        return 2.0

    assert synchronised(clock, device)() == 2.0
    assert seen == [waits, "clock"]
