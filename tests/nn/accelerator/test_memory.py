"""What is known of a device's memory, and the error where it runs out; with an accelerator: fake_device_cases."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from fedcore.core.errors import ConfigError, FedcoreError, OutOfMemory
from fedcore.nn.accelerator import memory
from fedcore.nn.accelerator.host_memory import FreeMemory
from fedcore.nn.accelerator.memory import MIB, counts_peaks, free_memory, guarded, is_out_of_memory, training_memory_mb

HOST = FreeMemory(free=1000 * MIB, total=4000 * MIB)


@pytest.fixture(autouse=True)
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host_memory", lambda: HOST)


def module(monkeypatch: pytest.MonkeyPatch, **functions: object) -> None:
    monkeypatch.setattr(torch, "get_device_module", lambda device: SimpleNamespace(**functions))


def test_the_cpu_has_the_machines_memory() -> None:
    assert free_memory("cpu") == HOST
    assert training_memory_mb("cpu") == (850.0, HOST)
    assert training_memory_mb("cpu", sharers=4)[0] == 212.5
    assert not counts_peaks(torch.device("cpu"))


def test_a_card_has_its_own_and_a_jetson_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, mem_get_info=lambda device: (200 * MIB, 500 * MIB))
    for integrated, expected in ((False, FreeMemory(free=200 * MIB, total=500 * MIB)), (True, HOST)):
        properties = SimpleNamespace(is_integrated=integrated)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device, found=properties: found)
        assert free_memory("cuda:0") == expected


def test_mps_has_what_metal_recommends(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch, recommended_max_memory=lambda: 900 * MIB, driver_allocated_memory=lambda: 300 * MIB)
    assert free_memory("mps") == FreeMemory(free=600 * MIB, total=900 * MIB)


def test_a_device_that_tells_nothing_needs_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    module(monkeypatch)
    with pytest.raises(ConfigError, match=r'memory_mb = "auto": nothing tells how much memory xpu:0 has'):
        training_memory_mb("xpu:0")


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_who_says_that_memory_ran_out(cause: Exception, expected: bool) -> None:
    assert is_out_of_memory(cause) is expected


def test_the_error_has_figures_and_keeps_no_tensor() -> None:
    references = []

    def work() -> None:
        large = torch.zeros(1000)
        references.append(weakref.ref(large))
        raise torch.OutOfMemoryError(f"no room beside {large.numel()}")

    words = r"training ran out of memory on cpu: 1000 of 4000 MiB are free"
    with pytest.raises(OutOfMemory, match=words) as caught, guarded("cpu", "training"):
        work()
    gc.collect()
    assert isinstance(caught.value, FedcoreError) and references[0]() is None


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), guarded("cpu", "training"):
        raise ZeroDivisionError
