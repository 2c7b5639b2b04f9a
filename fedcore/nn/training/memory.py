"""The peak of live tensor memory, on any device, independent of the allocator.

A dispatch mode sees every storage that an operation reads or makes; a weak reference says when it dies. This
counts parameters, gradients, optimiser state, saved activations and temporaries between operations, each
storage once however many views it has. It does not see scratch space inside a kernel, nor Python objects.
"""

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedcore.nn.accelerator.memory import counts_peaks, peak_bytes, restart_peak

MIB = 2**20


class LiveTensorMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context manager around one training step; afterwards `peak_bytes` and `peak_mb` hold the peak.

    What already lives at the start (parameters, buffers, their gradients, optimiser state) counts in full. Adds
    some tens of microseconds to every operation: use it on one step, not on all.
    """

    def __init__(self, model: torch.nn.Module | None = None, optimizer: torch.optim.Optimizer | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._sizes: dict[int, int] = {}  # bytes counted, by the storage's address in C++
        self._deaths: dict[int, weakref.finalize[Any, Any]] = {}
        self._watch(_standing(model, optimizer))

    @property
    def peak_mb(self) -> float:
        """Peak live tensor memory, MiB."""
        return self.peak_bytes / MIB

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one operation and count the storages it read and made."""
        named = dict(kwargs or {})
        result = func(*args, **named)
        self._watch(leaf for leaf in tree_leaves((args, named, result)) if isinstance(leaf, torch.Tensor))
        return result

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop counting; the figures stay."""
        super().__exit__(exc_type, exc_value, traceback)  # type: ignore[no-untyped-call]
        for death in self._deaths.values():
            death.detach()
        self._deaths.clear()

    def _watch(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            counted = self._sizes.get(key)
            if counted is None:
                self._deaths[key] = weakref.finalize(storage, self._forget, key)
            if counted != storage.nbytes():  # new, or resized in place
                self.live_bytes += storage.nbytes() - (counted or 0)
                self._sizes[key] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _forget(self, key: int) -> None:
        self.live_bytes -= self._sizes.pop(key, 0)
        self._deaths.pop(key, None)


class AllocatorMeter:
    """As LiveTensorMeter, by the peak that an accelerator's allocator counts; costs nothing.

    What other models of the process hold is left out.
    """

    def __init__(
        self, device: torch.device, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> None:
        self.peak_bytes = 0
        self._device, self._model, self._optimizer = device, model, optimizer
        self._standing = self._before = 0

    @property
    def peak_mb(self) -> float:
        """Peak memory, MiB."""
        return self.peak_bytes / MIB

    def __enter__(self) -> "AllocatorMeter":
        """Begin to count."""
        storages = {tensor.untyped_storage()._cdata: tensor for tensor in _standing(self._model, self._optimizer)}
        self._standing = sum(tensor.nbytes for tensor in storages.values())
        self._before = restart_peak(self._device)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop counting; the figures stay."""
        self.peak_bytes = self._standing + peak_bytes(self._device) - self._before


def step_meter(
    device: torch.device, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> "LiveTensorMeter | AllocatorMeter":
    """Return the meter for a training step on a device."""
    if counts_peaks(device):
        return AllocatorMeter(device, model, optimizer)
    return LiveTensorMeter(model, optimizer)


def _standing(model: torch.nn.Module | None, optimizer: torch.optim.Optimizer | None) -> list[torch.Tensor]:
    """Return the tensors that live before the step begins."""
    tensors: list[torch.Tensor] = []
    if model is not None:
        tensors += [*model.parameters(), *model.buffers()]
        tensors += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    if optimizer is not None:
        tensors += [leaf for leaf in tree_leaves(list(optimizer.state.values())) if isinstance(leaf, torch.Tensor)]
    return tensors
