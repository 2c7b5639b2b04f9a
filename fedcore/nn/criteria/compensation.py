"""FLAP's bias compensation: the mean contribution of a removed group moves to the bias of the layer that read it.

    b <- b + W[:, removed] mean(X)[removed]

for o and down, with effective weights W + s B A, right before the cut (`fedcore.nn.model.surgery.shrink`). The layer's
mean output over the calibration tokens is then what it was.

Devices of a fleet share one base model, biases included, so a fleet would have to agree on the means, as it agrees on a
removal order. That does not exist yet: compensation is for a model in one place.

Source: An et al., "Fluctuation-based adaptive structured pruning for large language models", 2024, arXiv 2312.11983.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import READERS
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.criteria.group_scores import effective_weight
from fedcore.nn.criteria.layer_inputs import watch_inputs
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.surgery import positions
from fedcore.nn.training.batches import Batch

Means = Mapping[tuple[int, str], torch.Tensor]  # (layer, "o" or "down") -> mean input (in,), float32


def input_means(classifier: Classifier, batches: Iterable[Batch]) -> dict[tuple[int, str], torch.Tensor]:
    """Return the mean over all true tokens of the inputs of o and down, of the model as it is cut now."""
    sums: dict[tuple[int, str], torch.Tensor] = {}
    tokens: dict[tuple[int, str], int] = {}

    def see(layer: int, module: str, inputs: torch.Tensor) -> None:
        key = layer, module
        sums[key] = inputs.sum(dim=0) + sums.get(key, 0.0)
        tokens[key] = len(inputs) + tokens.get(key, 0)

    for batch in batches:
        watch_inputs(classifier, batch, see)
    return {key: total / tokens[key] for key, total in sums.items()}


@torch.no_grad()
def compensate(classifier: Classifier, keep_set: KeepSet, means: Means) -> None:
    """Add to the biases the mean output that a cut to `keep_set` removes; call it right before the cut.

    Raises ModelError, and changes nothing, where o or down of the model has no bias to add to.
    """
    geometry = classifier.geometry
    for layer in classifier.layers:
        for module in READERS:
            if classifier.base_linear(layer, module).bias is None:
                raise ModelError(
                    f"bias compensation: {module} of a model of type {geometry.model_type!r} has no bias, expected one"
                    " on o and down (BERT types have them, Llama with attention_bias and mlp_bias); prune without it"
                )
    for layer in keep_set.layers:
        for module in READERS:
            kept = positions(geometry, classifier.keep_set, keep_set, layer, module)
            if kept is None:
                continue
            mean, weight = means[layer, module], effective_weight(classifier.linear(layer, module))
            removed = torch.from_numpy(np.setdiff1d(np.arange(len(mean)), kept))
            bias = classifier.base_linear(layer, module).bias
            bias.add_((weight[:, removed] @ mean[removed]).to(bias.dtype))
