"""The objective of local training: the task's loss, with an optional label shift added to the logits.

On a device that lacks labels, a step's rate is multiplied by (error / error of a guess)^one_sided, at most 1, where the
error is the batch's mean 1 - p(label) and one_sided is 1 for a device of one label, 0 for one with the fleet's labels
(fedcore.core.data.label_votes). AdamW takes full steps however small the gradient is: without this, a device of one
label goes on to pull every answer towards it when it has long learned it, and nothing holds the threshold between the
labels. With it, the pull fades as the gradient of the cross-entropy does. Measured: docs/log/2026-12.md.

With distillation, a pruned student learns from the dense teacher too:

    loss = (1 - w) loss(z + shift, y) + w divergence(z, z_teacher)

with the divergence of the task's loss (`fedcore.nn.losses`). The shift belongs to the first part alone: it corrects for
the device's own label shares. The teacher learned from the whole fleet and needs no correction; nor does the student
where it is compared with the teacher.
"""

import math

import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.precision import FLOAT32
from fedcore.nn.accelerator.loss_scale import LossScale
from fedcore.nn.losses.loss import Loss
from fedcore.nn.losses.table import LOSSES
from fedcore.nn.model.classifier import Classifier


class Objective:
    """The mean of a loss, under a device's label plan: its shift (labels,) is added to the outputs.

    `scale` is the factor of the loss in the backward pass, which training in float16 searches for.
    """

    def __init__(self, loss: Loss, labels: LabelPlan | None = None, scale: LossScale | None = None) -> None:
        plan = labels or LabelPlan()
        self.scale = scale or LossScale(FLOAT32)
        self._loss, self._one_sided = loss, plan.one_sided
        self._shift = None if plan.shift is None else torch.from_numpy(plan.shift)

    def __call__(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, float32."""
        shifted = outputs if self._shift is None else outputs + self._shift.to(outputs.device)
        return self._loss.mean(shifted, targets)

    def divergence(self, outputs: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
        """Return how far the outputs are from a teacher's, both (rows, width): a scalar."""
        return self._loss.divergence(outputs, teacher, how).mean()

    def error(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor | None:
        """Return the batch's mean 1 - p(label), a scalar; None where it does not matter."""
        return None if self._one_sided == 0.0 else row_errors(logits, labels).mean()

    def step_scale(self, error: float, labels: int) -> float:
        """Return the factor of the step's learning rate, in [0, 1], from `error` among so many labels."""
        return 1.0 if self._one_sided == 0.0 else step_scale(error, labels, self._one_sided)


def objective_of(classifier: Classifier, labels: LabelPlan | None = None) -> Objective:
    """Return the objective of a classifier's task under a device's label plan, or without one."""
    return Objective(LOSSES[classifier.task.loss], labels, LossScale(classifier.precision))


def row_errors(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return 1 - p of every row's own label, (...,), from logits (..., labels) and labels (...,)."""
    own = logits.detach().softmax(dim=-1).gather(-1, labels.unsqueeze(-1))
    return 1.0 - own.squeeze(-1)


def step_scale(error: float, labels: int, one_sided: float) -> float:
    """Return (error / error of a guess among so many labels)^one_sided, at most 1; a finite error is in [0, 1]."""
    if not math.isfinite(error):
        return 1.0  # the loss is not finite either, and ends the training
    guess = 1.0 - 1.0 / max(2, labels)
    return float(min(1.0, max(0.0, error) / guess) ** one_sided)


def blended(loss: torch.Tensor, divergence: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return (1 - w) loss + w divergence."""
    return (1.0 - how.weight) * loss + how.weight * divergence
