"""Putting a base shift into a classifier's frozen weights."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.errors import ModelError
from fedcore.core.model.base_shift import SHIFT
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.quantized import whole


def add_shift(classifier: Classifier, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Add every `layers.i.module.W` among `tensors` to its base weight, in float32, rounded once to the weight's type.

    The model is whole and as on disk, without adapters. Raises ModelError where a shape differs.
    """
    for name in tensors:
        if not name.endswith(SHIFT):
            continue
        _, layer, module, _ = name.split(".")
        weight = whole(classifier.base_linear(int(layer), module), "add a base shift to").weight
        if weight.shape != tensors[name].shape:
            raise ModelError(f"{name} has shape {tensors[name].shape}, the model's weight {tuple(weight.shape)}")
        with torch.no_grad():
            moved = weight.float() + torch.from_numpy(np.array(tensors[name])).to(weight.device)
            weight.copy_(moved)
