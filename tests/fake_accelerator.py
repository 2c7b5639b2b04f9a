"""A make-believe accelerator, device type "fake": real values, kept on the CPU, and the refusals of a real one.

`install` registers a PrivateUse1 backend that is written in Python. Every operation runs on CPU copies of its tensors,
so results are the CPU's. As on CUDA, a CPU tensor beside one of the device is refused, unless it is a copy, an index
or one number, and an allocation beyond `FakeModule.total_bytes` raises torch.OutOfMemoryError.

The registration lasts for the process and changes PyTorch for all that runs in it: tests that need the device run in a
process of their own (tests/nn/test_fake_device.py). This interface of PyTorch is experimental.
"""

import weakref
from functools import cache, partial
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "fake"
GIB = 2**30

CROSSING = "aten::_copy_from"
READING = ("aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::is_nonzero")
RESHAPING = ("aten::view.", "aten::_unsafe_view.", "aten::_reshape_alias.")
INDEXING = ("aten::index.", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index")
FUSED = ("aten::_fused_adamw_", "aten::_fused_adam_")  # here even one number on the CPU is refused

# Operators that PyTorch would otherwise compute from the strides of a shell, which has none of its own.
VIEWS = (
    *("_reshape_alias", "_unsafe_view", "as_strided", "diagonal", "expand", "permute"),
    *("select.int", "slice.Tensor", "split.Tensor", "split_with_sizes", "squeeze", "squeeze.dim", "squeeze.dims", "t"),
    *("transpose.int", "unbind.int", "unfold", "unsqueeze", "view", "view.dtype"),
)


class FakeModule:
    """The module `torch.fake`, as `torch.cuda` is that of CUDA. Set `total_bytes` to make memory scarce."""

    def __init__(self) -> None:
        self.total_bytes = 64 * GIB
        self.allocated = self.peak = self.synchronised = 0
        self.waits = 0  # reads of values, for which a real device would have to finish all that was ordered

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def manual_seed(self, seed: int) -> None:
        """Do nothing: random numbers are drawn on the CPU."""

    manual_seed_all = manual_seed

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def synchronize(self, device: object = None) -> None:
        self.synchronised += 1

    def mem_get_info(self, device: object = None) -> tuple[int, int]:
        return self.total_bytes - self.allocated, self.total_bytes

    def memory_allocated(self, device: object = None) -> int:
        return self.allocated

    def max_memory_allocated(self, device: object = None) -> int:
        return self.peak

    def reset_peak_memory_stats(self, device: object = None) -> None:
        self.peak = self.allocated

    def empty_cache(self) -> None:
        """Do nothing: memory that nothing refers to is free at once."""


class _Memory:
    """The CPU values of all shells, and the bytes that their storages take."""

    def __init__(self, module: FakeModule) -> None:
        self.module = module
        self.values: dict[int, torch.Tensor] = {}  # by the address of the shell's storage in C++
        self.storages: dict[int, int] = {}  # address of a storage of values -> shells that show a part of it

    def shell(self, value: torch.Tensor) -> torch.Tensor:
        """Return a tensor of the device with `value`, and the shape and dtype of it."""
        self._take(value.untyped_storage())
        shell = torch._C._acc.create_empty_tensor(tuple(value.shape), value.dtype)
        storage = shell.untyped_storage()
        self.values[storage._cdata] = value
        # autograd makes further shells of the same storage in C++, so the storage's end counts, not the shell's
        weakref.finalize(storage, self._drop, storage._cdata).atexit = False
        return shell

    def value(self, shell: torch.Tensor) -> torch.Tensor:
        """Return the CPU tensor of a shell."""
        return self.values[shell.untyped_storage()._cdata]

    def _take(self, storage: torch.UntypedStorage) -> None:
        known = self.storages.get(storage._cdata, 0)
        if not known:
            wanted, free = storage.nbytes(), self.module.total_bytes - self.module.allocated
            if wanted > free:
                raise torch.OutOfMemoryError(f"fake out of memory: tried to allocate {wanted} bytes, {free} are free")
            self.module.allocated += wanted
            self.module.peak = max(self.module.peak, self.module.allocated)
        self.storages[storage._cdata] = known + 1

    def _drop(self, key: int) -> None:
        storage = self.values.pop(key).untyped_storage()
        self.storages[storage._cdata] -= 1
        if not self.storages[storage._cdata]:
            del self.storages[storage._cdata]
            self.module.allocated -= storage.nbytes()


@cache
def install() -> FakeModule:
    """Register the device in this process, once, and return its module."""
    module = FakeModule()
    memory = _Memory(module)
    backend_registration._setup_privateuseone_for_python_backend(NAME, module)
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(partial(_run, memory), "PrivateUse1")
    everything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    views = torch.library.Library("aten", "IMPL")
    for name in VIEWS:
        base, _, overload = name.partition(".")
        operator = getattr(getattr(torch.ops.aten, base), overload or "default")
        views.impl(name, partial(_run, memory, operator), "PrivateUse1")
    views.impl("_fused_sdp_choice", lambda *_, **__: 0, "PrivateUse1")  # plain matrix products
    _KEPT.extend((everything, views))
    return module


_KEPT: list[torch.library.Library] = []  # a library that nothing refers to takes its kernels back


def _run(memory: _Memory, operator: Any, *args: Any, **kwargs: Any) -> Any:
    """Run one operator on the CPU values of its arguments."""
    name = f"{operator._schema.name}.{operator._schema.overload_name}"
    if name.startswith(CROSSING):
        return _copied(memory, *args[:2])
    memory.module.waits += name.startswith(READING)
    _refuse_strays(name, args, kwargs)
    shells: dict[int, torch.Tensor] = {}  # by the identity of their values

    def lowered(leaf: Any) -> Any:
        if isinstance(leaf, torch.device):
            return torch.device("cpu")
        if not isinstance(leaf, torch.Tensor) or leaf.device.type != NAME:
            return leaf
        value = memory.value(leaf)
        shells[id(value)] = leaf
        return value

    def raised(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        return shells[id(leaf)] if id(leaf) in shells else memory.shell(leaf)

    named = {**tree_map(lowered, kwargs), **({"pin_memory": None} if "pin_memory" in kwargs else {})}
    result = _call(operator, name, tree_map(lowered, args), named)
    for shell in shells.values():
        if shell.shape != memory.value(shell).shape:  # it was resized in place
            shell.data = memory.shell(memory.value(shell))
    return tree_map(raised, result)


def _copied(memory: _Memory, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Copy the first tensor into the second, whatever their devices: the order of `_copy_from`."""
    memory.module.waits += first.device.type == NAME and second.device.type != NAME
    source, target = (memory.value(tensor) if tensor.device.type == NAME else tensor for tensor in (first, second))
    target.copy_(source)
    return second


def _call(operator: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Call an operator with CPU tensors, where a shell's shape and strides were not those of its value."""
    if name.startswith(RESHAPING) and not isinstance(args[1], torch.dtype):
        return args[0].reshape(args[1])  # a shell looks contiguous where its value is not
    if name.startswith("aten::as_strided.") and not args[0].is_contiguous():
        return operator(args[0].contiguous(), *args[1:], **kwargs)
    # PyTorch hands over a number where the operator asks for a tensor of one number
    kinds = [str(argument.type) for argument in operator._schema.arguments]
    args = tuple(
        torch.tensor(value) if kind == "Tensor" and isinstance(value, bool | int | float) else value
        for value, kind in zip(args, kinds, strict=False)
    )
    if name.startswith(FUSED):
        args = (args[0], [gradient.contiguous() for gradient in args[1]], *args[2:])
    return operator(*args, **kwargs)


def _refuse_strays(name: str, args: Any, kwargs: Any) -> None:
    """Raise RuntimeError where a CPU tensor stands beside one of the device, as CUDA does."""
    inputs = args[:1] if name.startswith(INDEXING) else args
    values = args[2:] if "index_put" in name else ()
    tensors = [leaf for leaf in tree_leaves((inputs, values, kwargs)) if isinstance(leaf, torch.Tensor)]
    if not any(tensor.device.type == NAME for tensor in tensors):
        return
    least = 0 if name.startswith(FUSED) else 1
    for tensor in tensors:
        if tensor.device.type == "cpu" and tensor.dim() >= least:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
                f"({name.removeprefix('aten::')}, shape {tuple(tensor.shape)})"
            )
