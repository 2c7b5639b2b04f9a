"""The losses that tasks name."""

import pytest
import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.core.tasks.table import TASKS
from fedcore.nn.losses.table import LOSSES


@pytest.mark.parametrize("task", TASKS)
def test_every_task_names_a_loss(task: str) -> None:
    assert TASKS[task].loss in LOSSES


# Outputs of next-token are sums over tokens, which count alike in a mean, and no logits that a teacher could have.
OF_ROWS = [name for name in LOSSES if name != "next-token"]


@pytest.mark.parametrize("name", OF_ROWS)
def test_the_mean_is_that_of_every_rows_loss(name: str) -> None:
    outputs, targets = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0, 2])
    loss = LOSSES[name]
    stacked = loss.each(outputs.view(2, 3, 3), targets.view(2, 3))  # of two devices
    assert stacked.shape == (2, 3)
    torch.testing.assert_close(loss.mean(outputs, targets), stacked.mean())


@pytest.mark.parametrize("name", OF_ROWS)
def test_nobody_diverges_from_a_teacher_of_the_same_answers(name: str) -> None:
    outputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    how = Distillation(weight=0.5, temperature=2.0, mix=0.5)
    divergence = LOSSES[name].divergence(outputs, outputs, how)
    assert divergence.shape == (4,) and torch.allclose(divergence, torch.zeros(4), atol=1e-6)
