"""Predictions of a classifier, and its metrics."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.data.figures import Metrics
from fedcore.core.errors import OutOfMemory
from fedcore.nn.accelerator.memory import guarded, release
from fedcore.nn.accelerator.precision import autocast
from fedcore.nn.losses.loss import Lesson
from fedcore.nn.losses.table import LOSSES
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch, EncodedRows, collate, length_sorted_batches

Indices = NDArray[np.int64]
Ask = Callable[[Classifier, Batch], torch.Tensor]


def forward_logits(classifier: Classifier, batch: Batch, lesson: Lesson | None = None) -> torch.Tensor:
    """Return the outputs of the task's loss, float32 (batch, width), computed in the classifier's precision.

    For a classifier they are its logits. With a `lesson` they can be compared with the teacher's answers in it.
    """
    with autocast(classifier.precision, classifier.device):
        return LOSSES[classifier.task.loss].outputs(classifier, batch, lesson)


def predict(classifier: Classifier, rows: EncodedRows, batch_size: int = 64) -> NDArray[np.float32]:
    """Return logits (rows, classes), in the order of `rows`, without dropout.

    Batches are halved where memory runs out; raises OutOfMemory where one row is too much.
    """
    parts = asked(classifier, rows, forward_logits, batch_size)
    gathered = np.concatenate([outputs.cpu().numpy() for _, outputs in parts])
    logits = np.empty_like(gathered)
    logits[np.concatenate([indices for indices, _ in parts])] = gathered
    return logits


def asked(classifier: Classifier, rows: EncodedRows, ask: Ask, batch_size: int) -> list[tuple[Indices, torch.Tensor]]:
    """Return what `ask` says of batches of all `rows`, with the rows' places, without gradients and dropout.

    Batches are halved where memory runs out; raises OutOfMemory where one row is too much.
    """
    device = str(classifier.device)
    while True:
        try:
            with guarded(device, "measuring"):
                return _asked(classifier, rows, ask, batch_size)
        except OutOfMemory:
            if batch_size == 1:
                raise
        release(device)
        batch_size = max(1, batch_size // 2)


def _asked(classifier: Classifier, rows: EncodedRows, ask: Ask, batch_size: int) -> list[tuple[Indices, torch.Tensor]]:
    training = classifier.model.training
    classifier.model.eval()
    with torch.no_grad():
        parts = [
            (indices, ask(classifier, collate(rows, indices)).cpu())
            for indices in length_sorted_batches(rows, batch_size)
        ]
    classifier.model.train(training)
    return parts


def evaluate(classifier: Classifier, rows: EncodedRows, batch_size: int = 64) -> Metrics:
    """Return the figures of the classifier's task over all of `rows`."""
    return classifier.task.measure(predict(classifier, rows, batch_size), rows.labels)
