"""Gradient checkpointing: every layer keeps its input alone, and computes the rest again in the backward pass.

Source: Chen et al., "Training deep nets with sublinear memory cost", 2016, arXiv 1604.06174. transformers has a switch
of its own, which works in training mode alone; here the model stays in evaluation mode.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint

from fedcore.core.model.families import family_of
from fedcore.nn.model.classifier import Classifier


@contextmanager
def checkpointed(classifier: Classifier, on: bool = True) -> Iterator[None]:
    """Run a block in which the backward pass computes every layer's activations anew; nothing changes unless `on`.

    Values and gradients are the same: a frozen base in evaluation mode draws no random numbers.
    """
    layers: list[Any] = [_layer(classifier, index) for index in range(len(classifier.layers) if on else 0)]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own shows again


def _layer(classifier: Classifier, index: int) -> Any:
    layers = family_of(classifier.geometry.model_type).layout.attention.partition("{}")[0]  # "encoder.layer."
    return classifier.backbone.get_submodule(f"{layers}{index}")
