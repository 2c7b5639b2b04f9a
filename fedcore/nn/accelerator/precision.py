"""The precision that a device computes in: what it has, and the context of a forward pass."""

from contextlib import AbstractContextManager, nullcontext

import torch

from fedcore.core.accelerators import CPU
from fedcore.core.precision import FLOAT32, resolved

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision_for(wanted: str, device: str) -> str:
    """Return the precision that `training.precision` stands for on `device`; errors as in `resolved`."""
    return resolved(wanted, device, bfloat16=_has_bfloat16(device))


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of a forward pass in `precision`; for float32 an empty one, which changes nothing."""
    if precision == FLOAT32:
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context inside that of `autocast`, in which every operation has the dtype of its inputs."""
    if not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _has_bfloat16(device: str) -> bool:
    kind = device.partition(":")[0]
    if kind == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    return kind in (CPU, "xpu")
