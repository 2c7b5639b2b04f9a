"""A clock for work on an accelerator, which takes orders into a queue and returns before it has carried them out."""

from collections.abc import Callable
from typing import Any

import torch

from fedcore.core.accelerators import CPU

Clock = Callable[[], float]


def synchronised(clock: Clock, device: str) -> Clock:
    """Return `clock`, read once all that was ordered of `device` is done; for the CPU, `clock` itself.

    `device` is a name of PyTorch, such as "cuda:1".
    """
    if device == CPU:
        return clock

    def read() -> float:
        synchronise(device)
        return clock()

    return read


def synchronise(device: str) -> None:
    """Wait until an accelerator has done all that was ordered of it."""
    module: Any = torch.get_device_module(torch.device(device))
    if device == "mps":  # there is one only, and its function takes no device
        module.synchronize()
    else:
        module.synchronize(torch.device(device))
