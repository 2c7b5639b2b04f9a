import math

import numpy as np
import pytest
import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan, prior_shift
from fedcore.nn.losses.cross_entropy import CROSS_ENTROPY, divergences
from fedcore.nn.training.objective import Objective, blended, step_scale

PLAIN = Objective(CROSS_ENTROPY)


def scale_of(objective: Objective, logits: torch.Tensor, labels: torch.Tensor) -> float:
    error = objective.error(logits, labels)
    assert error is not None
    return objective.step_scale(float(error), logits.shape[-1])


def test_without_a_shift_it_is_cross_entropy() -> None:
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    assert PLAIN(logits, labels) == torch.nn.functional.cross_entropy(logits, labels)


def test_the_shift_is_added_to_every_row() -> None:
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    shift = np.array([1.0, -1.0], dtype=np.float32)
    expected = torch.nn.functional.cross_entropy(torch.tensor([[1.0, -1.0], [1.0, -1.0]]), labels)
    assert torch.isclose(Objective(CROSS_ENTROPY, LabelPlan(shift=shift))(logits, labels), expected)


def test_a_device_with_one_label_has_next_to_nothing_to_teach() -> None:
    """Without the shift its gradient would push every logit towards the only label it knows."""
    labels = torch.zeros(8, dtype=torch.long)
    plain, shifted = torch.zeros(8, 2, requires_grad=True), torch.zeros(8, 2, requires_grad=True)
    PLAIN(plain, labels).backward()
    Objective(CROSS_ENTROPY, LabelPlan(shift=prior_shift([1000, 0], [5000, 5000])))(shifted, labels).backward()
    assert shifted.grad is not None and plain.grad is not None
    assert shifted.grad.abs().max() < 0.01 * plain.grad.abs().max()


def test_steps_of_a_device_of_one_label_shrink_as_it_learns_the_label() -> None:
    labels = torch.zeros(4, dtype=torch.long)
    objective = Objective(CROSS_ENTROPY, LabelPlan(one_sided=1.0))
    unlearned, learned = torch.tensor([[-1.0, 1.0]]).expand(4, 2), torch.tensor([[3.0, -3.0]]).expand(4, 2)
    assert scale_of(objective, unlearned, labels) == 1.0
    assert scale_of(objective, torch.zeros(4, 2), labels) == 1.0
    assert scale_of(objective, learned, labels) == pytest.approx((1 - 1 / (1 + math.exp(-6))) / 0.5, rel=1e-4)
    assert PLAIN.error(learned, labels) is None and PLAIN.step_scale(0.1, 2) == 1.0


def test_the_scale_of_a_step() -> None:
    assert step_scale(0.19, 20, 0.5) == pytest.approx(math.sqrt(0.2))
    assert step_scale(0.0, 2, 1.0) == 0.0
    assert step_scale(1.0, 2, 1.0) == step_scale(0.0, 2, 0.0) == 1.0
    assert step_scale(math.nan, 2, 1.0) == 1.0  # the loss says what is wrong


def logits_of(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def test_half_way_between_student_and_teacher_by_hand() -> None:
    student, teacher = logits_of((0.0, 0.0)), torch.tensor([[math.log(9.0), 0.0]], dtype=torch.float64)
    value = divergences(student, teacher, Distillation(weight=1.0, temperature=1.0, mix=0.5))
    target = (0.75, 0.25)  # softmax(log 3, 0)
    expected = sum(p * math.log(p / 0.5) for p in target)
    assert value.shape == (1,) and value.item() == pytest.approx(expected, rel=1e-12)
    value.sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.tensor([[0.5 - 0.75, 0.5 - 0.25]], dtype=torch.float64))


def test_without_any_share_of_the_teacher_there_is_nothing_to_learn() -> None:
    student, teacher = logits_of((1.0, -2.0, 0.5), (0.0, 3.0, 1.0)), torch.randn(2, 3, dtype=torch.float64)
    value = divergences(student, teacher, Distillation(weight=0.5, temperature=3.0, mix=0.0))
    value.sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(value.detach(), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(student.grad, torch.zeros_like(student.grad), atol=1e-12, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_at_the_end_it_is_plain_distillation(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    value = divergences(student, teacher, Distillation(weight=1.0, temperature=temperature, mix=1.0))
    own, wanted = (torch.softmax(logits / temperature, dim=-1) for logits in (student, teacher))
    plain = temperature**2 * (wanted * (wanted / own).log()).sum(dim=-1)
    torch.testing.assert_close(value, plain)
    value.sum().backward()
    assert student.grad is not None
    torch.testing.assert_close(student.grad, temperature * (own - wanted).detach())


def test_the_blend_is_a_mean_by_weight() -> None:
    how = Distillation(weight=0.25, temperature=1.0, mix=1.0)
    assert blended(torch.tensor(2.0), torch.tensor(4.0), how).item() == 2.5
