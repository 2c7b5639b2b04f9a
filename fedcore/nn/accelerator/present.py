"""The accelerators of this machine, and the one that a process takes."""

import torch

from fedcore.core.accelerators import chosen


def accelerators() -> tuple[str, ...]:
    """Return the accelerators that PyTorch can use here, such as ("cuda:0", "cuda:1") or ("mps",)."""
    numbered = {"cuda": torch.cuda, "xpu": torch.xpu}
    names = [
        f"{kind}:{number}"
        for kind, module in numbered.items()
        if module.is_available()
        for number in range(module.device_count())
    ]
    return (*names, *(("mps",) if torch.backends.mps.is_available() else ()))


def device_for(wanted: str) -> str:
    """Return the device that `--device` stands for on this machine; raises ConfigError where it is not there."""
    return chosen(wanted, accelerators())
