"""A loss as a value: what training, criteria, teachers and the batched simulation ask of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.nn.model.classifier import Classifier

Pair = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Batch = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """The teacher's answers to one batch: its outputs (batch, width), or what `Loss.states` gives."""

    answers: torch.Tensor
    how: Distillation


def head_outputs(classifier: Classifier, batch: Batch, lesson: Lesson | None = None) -> torch.Tensor:
    """Return what the head makes of a batch, float32 (batch, width); labels in `batch` the model does not see.

    The same with a lesson as without: such outputs can be compared with a teacher's.
    """
    inputs = {name: tensor.to(classifier.device) for name, tensor in batch.items() if name != "labels"}
    logits: torch.Tensor = classifier.model(**inputs).logits
    return logits.float()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One loss on outputs (..., width) and targets (...,), on one device; what it returns is float32.

    `mean` is the scalar over all rows and `each` the loss of every row, (...,): a kernel of its own may serve either.
    `divergence` says how far outputs are from a teacher's, both (..., width), for every row, (...,). `outputs` makes
    them of a model and a batch, (batch, width) float32. Where outputs are too little to compare, `states` gives what a
    teacher keeps of a batch instead, (answered positions of the batch, width), row by row: `outputs` compares it with
    the student's where it gets a lesson, and `divergence` reads the result off the outputs.
    """

    mean: Pair
    each: Pair
    divergence: Callable[[torch.Tensor, torch.Tensor, Distillation], torch.Tensor]
    outputs: Callable[[Classifier, Batch, Lesson | None], torch.Tensor] = head_outputs
    states: Callable[[Classifier, Batch], torch.Tensor] | None = None
