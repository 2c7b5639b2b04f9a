"""The memory of one training step of a single device, as a function of its batch's size.

Devices that train together share tensors, so the peak of one device cannot be observed. It is estimated instead: two
steps of one device are taken and measured, and other sizes lie on the straight line through both.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.nn.model.checkpointing import checkpointed
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.frozen import training_only
from fedcore.nn.training.memory import step_meter
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.train import training_step


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMemory:
    """Peak live tensor MiB of a step: `standing_mb` + `token_mb` per padded token of the batch."""

    standing_mb: float = 0.0
    token_mb: float = 0.0

    def peak_mb(self, tokens: int) -> float:
        """Return the estimate for a batch of so many padded tokens; 0 without a step."""
        return self.standing_mb + self.token_mb * tokens if tokens else 0.0


def measure_step_memory(classifier: Classifier, spec: TrainingSpec, *, rows: int, width: int) -> StepMemory:
    """Take a step on one row and one on `rows` (two or more) of `width` tokens; the classifier stays as it is."""
    sizes = (1, max(2, rows))
    with training_only(classifier, spec.trains) as parameters, checkpointed(classifier, spec.checkpointing):
        peaks = [_peak_mb(classifier, parameters, spec, rows=size, width=width) for size in sizes]
    slope = (peaks[1] - peaks[0]) / ((sizes[1] - sizes[0]) * width)
    return StepMemory(standing_mb=peaks[0] - slope * width, token_mb=slope)


def _peak_mb(
    classifier: Classifier, parameters: dict[str, nn.Parameter], spec: TrainingSpec, *, rows: int, width: int
) -> float:
    """Return the peak of one step on `rows` rows, and restore the parameters."""
    kept = [parameter.detach().clone() for parameter in parameters.values()]
    optimizer = make_optimizer(parameters, learning_rate=0.0, weight_decay=spec.weight_decay)
    ids = torch.zeros(rows, width, dtype=torch.int64)
    target_type = torch.from_numpy(np.empty(0, dtype=classifier.task.target_type)).dtype
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0].to(target_type)}
    with step_meter(classifier.device, classifier.model, optimizer) as meter:
        training_step(classifier, optimizer, batch)
    with torch.no_grad():
        for parameter, value in zip(parameters.values(), kept, strict=True):
            parameter.copy_(value)
    return float(meter.peak_mb)
