"""Training a part of the adapter: frozen tensors take no gradient, and autograd ends at the first trained layer."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from fedcore.core.model.trained_part import TrainedPart
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, factors, trainable_parameters


@contextmanager
def training_only(classifier: Classifier, trains: TrainedPart) -> Iterator[dict[str, nn.Parameter]]:
    """Freeze the factors and heads that do not train, and yield the parameters that do, by canonical name."""
    parameters = trainable_parameters(classifier)
    frozen = [parameter for name, parameter in parameters.items() if not trains.has(name)]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield dict(trains.of(parameters))
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)


def first_trained_layer(classifier: Classifier) -> int:
    """Return the first layer of which a factor trains; the number of layers where none does."""
    for key, layer in adapted(classifier):
        if any(factor.requires_grad for factor in factors(layer)):
            return int(key.split(".")[1])
    return classifier.geometry.layers
