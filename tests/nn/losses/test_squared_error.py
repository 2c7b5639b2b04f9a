"""The squared error of one output a row."""

import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.losses.squared_error import SQUARED_ERROR


def test_exact_values() -> None:
    outputs, targets = torch.tensor([[1.0], [4.0]]), torch.tensor([3.0, 4.0])
    assert SQUARED_ERROR.each(outputs, targets).tolist() == [4.0, 0.0]
    assert SQUARED_ERROR.mean(outputs, targets).item() == 2.0
    assert SQUARED_ERROR.mean(outputs.bfloat16(), targets).dtype == torch.float32


def test_the_teacher_comes_in_with_the_mix() -> None:
    outputs = torch.tensor([[1.0]], requires_grad=True)
    for mix, expected in ((0.0, 0.0), (0.5, 1.0), (1.0, 4.0)):
        how = Distillation(weight=1.0, temperature=2.0, mix=mix)
        found = SQUARED_ERROR.divergence(outputs, torch.tensor([[3.0]]), how)
        (gradient,) = torch.autograd.grad(found.sum(), outputs)
        assert found.tolist() == [expected] and gradient.item() == -4.0 * mix
