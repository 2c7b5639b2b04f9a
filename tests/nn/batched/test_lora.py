"""Stacked LoRA layers against the plain product, with gradients from autograd."""

import numpy as np
import pytest
import torch

from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.nn.batched.lora import StackedLora, freeze, put_factors, stacked
from fedcore.nn.model.lora import adapted, read_adapter
from tests.scored import adapted_classifier

DEVICES, SLOTS, RANK, INPUTS, OUTPUTS, SCALE = 3, 4, 2, 5, 6, 1.5


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def test_forward_and_backward_equal_the_written_out_formula() -> None:
    layer = StackedLora(torch.nn.Linear(INPUTS, OUTPUTS).requires_grad_(False), SCALE)
    x, a = random(DEVICES, SLOTS, INPUTS, seed=0), random(DEVICES, RANK, INPUTS, seed=1)
    b, upstream = random(DEVICES, OUTPUTS, RANK, seed=2), random(DEVICES, SLOTS, OUTPUTS, seed=3).detach()
    layer.a, layer.b = a, b
    output = layer(x)
    plain = layer.base_layer(x) + SCALE * x @ a.mT @ b.mT
    torch.testing.assert_close(output, plain)
    got = torch.autograd.grad(output, (x, a, b), upstream)
    expected = torch.autograd.grad(plain, (x, a, b), upstream)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_layers_are_replaced_and_restored_even_after_an_error() -> None:
    classifier = adapted_classifier("llama-gqa")
    before = dict(adapted(classifier))
    with pytest.raises(ValueError, match="stop"), stacked(classifier) as layers:
        assert layers.keys() == before.keys() and not list(adapted(classifier))
        assert classifier.linear(1, "down") is layers["layers.1.down"]
        assert layers["layers.1.down"].scale == 2.0
        raise ValueError("stop")
    assert dict(adapted(classifier)) == before


def test_a_frozen_factor_is_shared_by_all_devices_without_its_scale() -> None:
    classifier = adapted_classifier("bert", ("q",))
    adapter = read_adapter(classifier)
    values = {name: torch.zeros(2, *value.shape) for name, value in adapter.items() if name.endswith(".A")}
    with stacked(classifier) as layers:
        freeze(layers, adapter, EVERYTHING)
        assert all(not layer.frozen for layer in layers.values())
        freeze(layers, adapter, TrainedPart(factors=Factors.A))
        put_factors(layers, values)
        for key, layer in layers.items():
            assert layer.a is values[f"{key}.A"] and layer.b is not None
            np.testing.assert_allclose(layer.b, np.stack([adapter[f"{key}.B"] / 2.0] * 2), rtol=1e-6)
