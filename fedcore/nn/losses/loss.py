"""A loss as a value: what training, criteria and the batched simulation ask of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.model.classifier import Classifier

Pair = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def head_outputs(classifier: Classifier, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return what the head makes of a batch, float32 (batch, width); labels in `batch` the model does not see."""
    inputs = {name: tensor.to(classifier.device) for name, tensor in batch.items() if name != "labels"}
    logits: torch.Tensor = classifier.model(**inputs).logits
    return logits.float()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One loss on outputs (..., width) and targets (...,), on one device; what it returns is float32.

    `mean` is the scalar over all rows and `each` the loss of every row, (...,): a kernel of its own may serve either.
    `divergence` says how far outputs are from a teacher's, both (..., width), for every row, (...,). `outputs` makes
    them of a model and a batch, (batch, width) float32.
    """

    mean: Pair
    each: Pair
    divergence: Callable[[torch.Tensor, torch.Tensor, Distillation], torch.Tensor]
    outputs: Callable[[Classifier, Mapping[str, torch.Tensor]], torch.Tensor] = head_outputs
