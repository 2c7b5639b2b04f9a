"""The make-believe accelerator itself: its values, what it refuses, and how it counts memory."""

import gc

import pytest
import torch

from tests.fake_accelerator import NAME, install

MODULE = install()

OPERATIONS = {
    "product": lambda x: x @ x.T,
    "view of a transpose": lambda x: x.mT.reshape(4, 5),
    "part": lambda x: x[1:3, ::2],
    "mask": lambda x: x[x > 0],
    "index on the CPU": lambda x: x[torch.tensor([2, 0])],
    "split": lambda x: torch.cat(x.split(2)),
    "vmap": lambda x: torch.func.vmap(lambda row: row * 2)(x),
    "written part": lambda x: _written(x.clone()),
    "resized result": lambda x: torch.add(x, 1, out=x.new_empty(0)),
    "half": lambda x: x.half() + 1,
    "one number of the CPU": lambda x: x * torch.tensor(2.0),
    "unit rows": lambda x: x / x.norm(dim=1, keepdim=True),
}


def _written(x: torch.Tensor) -> torch.Tensor:
    x[:, 1] = 7.0
    x[0].copy_(torch.zeros(5))
    return x


@pytest.fixture
def values() -> torch.Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.filterwarnings("ignore:An output with one or more elements was resized")
def test_values_are_those_of_the_cpu(name: str, values: torch.Tensor) -> None:
    operation = OPERATIONS[name]
    result = operation(values.to(NAME))
    assert result.device == torch.device(NAME, 0)
    torch.testing.assert_close(result.cpu(), operation(values), rtol=0, atol=0)


def test_gradients_are_those_of_the_cpu(values: torch.Tensor) -> None:
    leaves = [values.clone().to(device).requires_grad_() for device in ("cpu", NAME)]
    for leaf in leaves:
        torch.nn.functional.cross_entropy(leaf.mT, torch.arange(5, device=leaf.device) % 4).backward()
    assert leaves[1].grad is not None
    assert leaves[1].grad.device.type == NAME
    torch.testing.assert_close(leaves[1].grad.cpu(), leaves[0].grad)


REFUSED = {
    "sum": lambda x, y: x + y,
    "product": lambda x, y: x @ y.T,
    "joined": lambda x, y: torch.cat([x, y]),
    "labels": lambda x, y: torch.nn.functional.cross_entropy(x, torch.arange(4)),
    "linear": lambda x, y: torch.nn.Linear(5, 2)(x),
    "written in place": lambda x, y: x.mul_(y),
    "put": lambda x, y: torch.index_put(x, (torch.tensor([0, 1]),), y[:2]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_tensors_of_two_devices_are_refused(name: str, values: torch.Tensor) -> None:
    with pytest.raises(RuntimeError, match="same device"):
        REFUSED[name](values.to(NAME), values)


def test_a_fused_optimiser_needs_its_step_on_the_device(values: torch.Tensor) -> None:
    parameter = torch.nn.Parameter(values.to(NAME))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = optimizer.state[parameter]
    assert state["step"].device.type == NAME
    state["step"] = state["step"].cpu()
    with pytest.raises(RuntimeError, match="same device"):
        optimizer.step()


def test_memory_is_counted_until_nothing_refers_to_it() -> None:
    gc.collect()
    before = MODULE.memory_allocated()
    MODULE.reset_peak_memory_stats()
    first = torch.zeros(1000, device=NAME)
    part = first[:10]
    assert MODULE.memory_allocated() == before + 4000  # a part takes no memory of its own
    del first
    assert MODULE.memory_allocated() == before + 4000  # and keeps the whole
    del part
    assert MODULE.memory_allocated() == before
    assert MODULE.max_memory_allocated() == before + 4000


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    before = MODULE.memory_allocated()
    monkeypatch.setattr(MODULE, "total_bytes", before + 10_000)
    assert MODULE.mem_get_info() == (10_000, before + 10_000)
    fits = torch.zeros(2000, device=NAME)
    with pytest.raises(torch.OutOfMemoryError, match="8000 bytes, 2000 are free"):
        torch.zeros(2000, device=NAME)
    assert MODULE.memory_allocated() == before + 8000
    del fits
    assert torch.zeros(2000, device=NAME).sum().item() == 0
