"""A classifier's parts: backbone, head, prunable layers, device and size."""

import pytest
import torch
from torch import nn

from fedcore.nn.model.lora import attach
from tests.tiny_classifiers import FAMILIES, tiny_classifier


@pytest.mark.parametrize("kind", FAMILIES)
def test_backbone_and_head_are_all_of_the_model(kind: str) -> None:
    classifier = tiny_classifier(kind)
    parts = [*classifier.backbone.parameters(), *classifier.head_module.parameters()]
    assert {id(parameter) for parameter in parts} == {id(parameter) for parameter in classifier.model.parameters()}
    assert classifier.count_parameters() == sum(parameter.numel() for parameter in parts)


def test_adapters_wrap_a_layer_and_do_not_count_as_parameters() -> None:
    classifier = tiny_classifier("bert")
    plain, parameters = classifier.linear(0, "q"), classifier.count_parameters()
    attach(classifier, rank=2, scale=1.0, targets=("q",))
    assert isinstance(plain, nn.Linear)
    assert classifier.linear(0, "q") is not plain
    assert classifier.base_linear(0, "q") is plain
    assert classifier.count_parameters() == parameters


def test_the_device_is_that_of_the_weights() -> None:
    classifier = tiny_classifier("bert")
    assert classifier.device == torch.device("cpu")
    classifier.model.to("meta")
    assert classifier.device == torch.device("meta")
