"""Cross-entropy of logits, in nats, and the divergence of a pruned student from its dense teacher.

    T^2 KL(p_t || p)    p_t = softmax(((1 - t) stopgrad(z) + t z_teacher) / T)    p = softmax(z / T)

TAID (Shing et al., ICLR 2025, arXiv 2501.16937, eq. 4) with a temperature, whose square keeps the gradient's size
(Hinton et al., 2015, arXiv 1503.02531). At t = 0 the divergence and its gradient are zero, at t = 1 it is plain
distillation.
"""

import torch
from torch.nn import functional

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.losses.loss import Loss


def _mean(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, labels)


def _each(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none").view_as(labels)


def divergences(logits: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    """Return T^2 KL(p_t || p) of every row, (...,), from logits of student and teacher, (..., labels)."""
    own = torch.log_softmax(logits / how.temperature, dim=-1)  # (..., labels)
    between = torch.lerp(logits.detach(), teacher, how.mix)
    target = torch.softmax(between / how.temperature, dim=-1)
    return how.temperature**2 * functional.kl_div(own, target, reduction="none").sum(dim=-1)


CROSS_ENTROPY = Loss(mean=_mean, each=_each, divergence=divergences)
