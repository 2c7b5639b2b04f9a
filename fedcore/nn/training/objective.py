"""The objective of local training: cross-entropy, with an optional label shift added to the logits.

On a device that lacks labels, a step's rate is multiplied by (error / error of a guess)^one_sided, at most 1, where the
error is the batch's mean 1 - p(label) and one_sided is 1 for a device of one label, 0 for one with the fleet's labels
(fedcore.core.data.label_votes). AdamW takes full steps however small the gradient is: without this, a device of one
label goes on to pull every answer towards it when it has long learned it, and nothing holds the threshold between the
labels. With it, the pull fades as the gradient of the cross-entropy does. Measured: docs/log/2026-12.md.

With distillation, a pruned student learns from the dense teacher too:

    loss = (1 - w) CE(z + shift, y) + w T^2 KL(p_t || p)
    p_t = softmax(((1 - t) stopgrad(z) + t z_teacher) / T)        p = softmax(z / T)

TAID (Shing et al., ICLR 2025, arXiv 2501.16937, eq. 4) with a temperature, whose square keeps the gradient's size
(Hinton et al., 2015, arXiv 1503.02531). At t = 0 the divergence and its gradient are zero, at t = 1 it is plain
distillation. The shift belongs to the cross-entropy alone: it corrects for the device's own label shares. The teacher
learned from the whole fleet and needs no correction; nor does the student where it is compared with the teacher.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.contract.distillation import Distillation


class Objective:
    """Mean cross-entropy of logits (rows, labels) plus a constant shift (labels,) (`fedcore.core.data.label_prior`)."""

    def __init__(self, prior_shift: NDArray[np.float32] | None = None, one_sided: float = 0.0) -> None:
        self._shift = None if prior_shift is None else torch.from_numpy(prior_shift)
        self._one_sided = one_sided

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, float32."""
        shifted = logits if self._shift is None else logits + self._shift.to(logits.device)
        return torch.nn.functional.cross_entropy(shifted, labels)

    def step_scale(self, logits: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the factor of the step's learning rate, in [0, 1]."""
        if self._one_sided == 0.0:
            return 1.0
        errors = row_errors(logits, labels)
        return step_scale(float(errors.mean()), logits.shape[-1], self._one_sided)


PLAIN = Objective()


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


def divergences(logits: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return T^2 KL(p_t || p) of every row, (...,), from logits of student and teacher, (..., labels)."""
    own = torch.log_softmax(logits / how.temperature, dim=-1)  # (..., labels)
    between = torch.lerp(logits.detach(), teacher, how.mix)
    target = torch.softmax(between / how.temperature, dim=-1)
    return how.temperature**2 * torch.nn.functional.kl_div(own, target, reduction="none").sum(dim=-1)


def blended(cross_entropy: torch.Tensor, divergence: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return (1 - w) cross_entropy + w divergence."""
    return (1.0 - how.weight) * cross_entropy + how.weight * divergence
