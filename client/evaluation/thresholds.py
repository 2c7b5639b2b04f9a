"""Set the thresholds between a classifier's labels by held-back rows (fedcore.core.data.label_offsets)."""

from collections.abc import Sequence

import numpy as np
import torch

from fedcore.core.data.label_offsets import label_offsets
from fedcore.core.model.head import has_label_rows
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.evaluate import predict


def set_thresholds(classifier: Classifier, rows: EncodedRows, batch_size: int) -> tuple[float, ...]:
    """Add label offsets, found on `rows`, to the bias of the head, and return them; () for a head without a bias."""
    bias = _output_bias(classifier)
    if bias is None:
        return ()
    offsets = label_offsets(predict(classifier, rows, batch_size), np.asarray(rows.labels))
    return add_offsets(classifier, offsets.tolist())


def add_offsets(classifier: Classifier, offsets: Sequence[float]) -> tuple[float, ...]:
    """Add `offsets`, one a label, to the bias of the head, and return them; () where there are none, or no bias."""
    bias = _output_bias(classifier)
    if bias is None or not offsets:
        return ()
    with torch.no_grad():
        bias.add_(torch.tensor(offsets, dtype=bias.dtype, device=bias.device))
    return tuple(offsets)


def _output_bias(classifier: Classifier) -> torch.nn.Parameter | None:
    """Return the parameter that is added to the outputs; a Llama's head has none."""
    named = classifier.head_parameters().items()
    return next((value for name, value in named if has_label_rows(name) and name.endswith("bias")), None)
