"""A loss as a value: what training, criteria and the batched simulation ask of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fedcore.core.contract.distillation import Distillation

Pair = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One loss on outputs (..., width) and targets (...,), on one device; what it returns is float32.

    `mean` is the scalar over all rows and `each` the loss of every row, (...,): a kernel of its own may serve either.
    `divergence` says how far outputs are from a teacher's, both (..., width), for every row, (...,).
    """

    mean: Pair
    each: Pair
    divergence: Callable[[torch.Tensor, torch.Tensor, Distillation], torch.Tensor]
