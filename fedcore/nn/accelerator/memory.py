"""The memory of a device: what is free, what training may take, and what happens when it runs out."""

import gc
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from fedcore.core.accelerators import CPU
from fedcore.core.errors import ConfigError, OutOfMemory
from fedcore.nn.accelerator.host_memory import FreeMemory, host_memory

MIB = 2**20
SHARE = 0.85  # of what is free: allocators round up, kernels need room to work in, other programs grow
# The CPU's allocator, mps and drivers raise a RuntimeError with these words.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "insufficient memory")


def free_memory(device: str) -> FreeMemory | None:
    """Return what is free on a device, a name of PyTorch; None where nothing tells.

    An accelerator without memory of its own, as in a Jetson, has the machine's.
    """
    if device == CPU or _is_integrated(device):
        return host_memory()
    module: Any = torch.get_device_module(torch.device(device))
    if device == "mps":
        total = int(module.recommended_max_memory())
        return FreeMemory(free=max(0, total - int(module.driver_allocated_memory())), total=total)
    if not hasattr(module, "mem_get_info"):
        return None
    free, total = module.mem_get_info(torch.device(device))
    return FreeMemory(free=int(free), total=int(total))


def training_memory_mb(device: str, sharers: int = 1) -> tuple[float, FreeMemory]:
    """Return the MiB that each of `sharers` processes on a device may train in, and what is free.

    Raises ConfigError where nothing tells.
    """
    memory = free_memory(device)
    if memory is None:
        raise ConfigError(f'memory_mb = "auto": nothing tells how much memory {device} has; give a number of MiB, or 0')
    return memory.free / MIB * SHARE / max(1, sharers), memory


def is_out_of_memory(cause: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the CPU or an accelerator."""
    if isinstance(cause, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(cause, RuntimeError) and any(word in str(cause).lower() for word in _WORDS)


@contextmanager
def guarded(device: str, what: str) -> Iterator[None]:
    """Run a block, and raise OutOfMemory with figures where it ran out of memory; `what` it does is in the message."""
    try:
        yield
    except Exception as cause:
        if not is_out_of_memory(cause):
            raise
        traceback.clear_frames(cause.__traceback__)  # they hold the tensors that took the memory
        raise OutOfMemory(f"{what} ran out of memory on {device}: {_figures(device)}") from None


def release(device: str) -> None:
    """Give memory that nothing refers to any more back to the device."""
    gc.collect()
    if device != CPU:
        module: Any = torch.get_device_module(torch.device(device))
        module.empty_cache()


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes that were allocated since `restart_peak`, by the allocator's own count."""
    return int(_counters(device).max_memory_allocated(device))


def restart_peak(device: torch.device) -> int:
    """Forget the peak so far, and return the bytes that are allocated now."""
    counters = _counters(device)
    counters.reset_peak_memory_stats(device)
    return int(counters.memory_allocated(device))


def counts_peaks(device: torch.device) -> bool:
    """Whether the device's allocator counts its peak: not the CPU's, nor that of mps."""
    return device.type != CPU and hasattr(_counters(device), "max_memory_allocated")


def _counters(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _is_integrated(device: str) -> bool:
    if not device.startswith("cuda"):
        return False
    return bool(getattr(torch.cuda.get_device_properties(device), "is_integrated", False))


def _figures(device: str) -> str:
    place = torch.device(device)
    held = f"{_counters(place).memory_allocated(place) / MIB:.0f} MiB were held, " if counts_peaks(place) else ""
    memory = free_memory(device)
    if memory is None:
        return f"{held}what is free is not known"
    return f"{held}{memory.free / MIB:.0f} of {memory.total / MIB:.0f} MiB are free"
