import numpy as np
import torch

from fedcore.label_prior import prior_shift
from fedcore.nn.objective import PLAIN, Objective


def test_without_a_shift_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    assert PLAIN(logits, labels) == torch.nn.functional.cross_entropy(logits, labels)


def test_the_shift_is_added_to_every_row() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    shift = np.array([1.0, -1.0], dtype=np.float32)
    expected = torch.nn.functional.cross_entropy(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), labels)
    assert torch.isclose(Objective(shift)(logits, labels), expected)


def test_a_device_with_one_label_has_next_to_nothing_to_teach() -> None:
    """Without the shift its gradient would push every logit towards the only label it knows."""
    labels = torch.zeros(8, dtype=torch.long)
    plain, shifted = torch.zeros(8, 2, requires_grad=True), torch.zeros(8, 2, requires_grad=True)
    PLAIN(plain, labels).backward()
    Objective(prior_shift([1000, 0], [5000, 5000]))(shifted, labels).backward()
    assert shifted.grad is not None and plain.grad is not None
    assert shifted.grad.abs().max() < 0.01 * plain.grad.abs().max()
