"""The dense model's logits for the rows that a device trains on, computed once a round by forward passes."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.evaluate import predict

Indices = NDArray[np.int64]
Answers = NDArray[np.float32]  # (rows, width); NaN for rows that do not train
Teacher = Callable[[EncodedRows, Indices], Answers]


def answers(classifier: Classifier, rows: EncodedRows, wanted: Indices, batch_size: int) -> Answers:
    """Return the logits of the `wanted` rows (ascending, without repeats), a batch of `batch_size` at a time.

    They carry no label shift.
    """
    table = np.full((len(rows), classifier.outputs), np.nan, dtype=np.float32)
    if len(wanted):
        table[wanted] = predict(classifier, rows.select(wanted), batch_size)
    return table
