"""The objective of local training: cross-entropy, with an optional label shift added to the logits.

With distillation, a pruned student learns from the dense teacher too:

    loss = (1 - w) CE(z + shift, y) + w T^2 KL(p_t || p)
    p_t = softmax(((1 - t) stopgrad(z) + t z_teacher) / T)        p = softmax(z / T)

TAID (Shing et al., ICLR 2025, arXiv 2501.16937, eq. 4) with a temperature, whose square keeps the gradient's size
(Hinton et al., 2015, arXiv 1503.02531). At t = 0 the divergence and its gradient are zero, at t = 1 it is plain
distillation. The shift belongs to the cross-entropy alone: it corrects for the device's own label shares. The teacher
learned from the whole fleet and needs no correction; nor does the student where it is compared with the teacher.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.contract.distillation import Distillation


class Objective:
    """Mean cross-entropy of logits (rows, labels) plus a constant shift (labels,) (`fedcore.core.data.label_prior`)."""

    def __init__(self, prior_shift: NDArray[np.float32] | None = None) -> None:
        self._shift = None if prior_shift is None else torch.from_numpy(prior_shift)

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the scalar loss, float32."""
        shifted = logits if self._shift is None else logits + self._shift.to(logits.device)
        return torch.nn.functional.cross_entropy(shifted, labels)


PLAIN = Objective()


def divergences(logits: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return T^2 KL(p_t || p) of every row, (...,), from logits of student and teacher, (..., labels)."""
    own = torch.log_softmax(logits / how.temperature, dim=-1)  # (..., labels)
    between = torch.lerp(logits.detach(), teacher, how.mix)
    target = torch.softmax(between / how.temperature, dim=-1)
    return how.temperature**2 * torch.nn.functional.kl_div(own, target, reduction="none").sum(dim=-1)


def blended(cross_entropy: torch.Tensor, divergence: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return (1 - w) cross_entropy + w divergence."""
    return (1.0 - how.weight) * cross_entropy + how.weight * divergence
