"""Predictions of a classifier, and its metrics."""

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.data.figures import Metrics
from fedcore.core.errors import OutOfMemory
from fedcore.nn.accelerator.memory import guarded, release
from fedcore.nn.accelerator.precision import autocast
from fedcore.nn.losses.table import LOSSES
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch, EncodedRows, collate, length_sorted_batches


def forward_logits(classifier: Classifier, batch: Batch) -> torch.Tensor:
    """Return the outputs of the task's loss, float32 (batch, width), computed in the classifier's precision.

    For a classifier they are its logits.
    """
    with autocast(classifier.precision, classifier.device):
        return LOSSES[classifier.task.loss].outputs(classifier, batch)


def predict(classifier: Classifier, rows: EncodedRows, batch_size: int = 64) -> NDArray[np.float32]:
    """Return logits (rows, classes), in the order of `rows`, without dropout.

    Batches are halved where memory runs out; raises OutOfMemory where one row is too much.
    """
    device = str(classifier.device)
    while True:
        try:
            with guarded(device, "measuring"):
                return _predicted(classifier, rows, batch_size)
        except OutOfMemory:
            if batch_size == 1:
                raise
        release(device)
        batch_size = max(1, batch_size // 2)


def _predicted(classifier: Classifier, rows: EncodedRows, batch_size: int) -> NDArray[np.float32]:
    training = classifier.model.training
    classifier.model.eval()
    parts, order = [], []
    with torch.no_grad():
        for indices in length_sorted_batches(rows, batch_size):
            parts.append(forward_logits(classifier, collate(rows, indices)).cpu().numpy())
            order.append(indices)
    classifier.model.train(training)
    gathered = np.concatenate(parts)
    logits = np.empty_like(gathered)
    logits[np.concatenate(order)] = gathered
    return logits


def evaluate(classifier: Classifier, rows: EncodedRows, batch_size: int = 64) -> Metrics:
    """Return the figures of the classifier's task over all of `rows`."""
    return classifier.task.measure(predict(classifier, rows, batch_size), rows.labels)
