"""The squared error of one output a row, and how far a pruned student is from its dense teacher.

    (y - y_t)^2    y_t = (1 - t) stopgrad(y) + t y_teacher

The counterpart of the divergence of cross-entropy, where a distribution is replaced by a number: at t = 0 it and its
gradient are zero, at t = 1 it is plain distillation. A temperature has no meaning for a number.
"""

import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.losses.loss import Loss


def _mean(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return _each(outputs, targets).mean()


def _each(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (outputs[..., 0].float() - targets).square()


def _apart(outputs: torch.Tensor, teacher: torch.Tensor, how: Distillation) -> torch.Tensor:
    return _each(outputs, torch.lerp(outputs.detach(), teacher, how.mix)[..., 0])


SQUARED_ERROR = Loss(mean=_mean, each=_each, divergence=_apart)
