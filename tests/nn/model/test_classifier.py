"""A loaded classifier: its parts, by canonical name, and its device."""

import pytest
import torch

from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach
from tests.tiny_classifiers import FAMILIES, tiny_classifier


@pytest.fixture(params=FAMILIES)
def classifier(request: pytest.FixtureRequest) -> Classifier:
    return tiny_classifier(request.param)


def test_head_parameters_have_the_names_and_shapes_of_the_head(classifier: Classifier) -> None:
    shapes = {name: tuple(parameter.shape) for name, parameter in classifier.head_parameters().items()}
    assert shapes == dict(classifier.head.shapes)


def test_a_base_linear_is_found_below_its_adapter(classifier: Classifier) -> None:
    before, parameters = classifier.base_linear(0, "q"), classifier.count_parameters()
    attach(classifier, rank=2, scale=2.0, targets=("q",))
    assert classifier.base_linear(0, "q") is before and classifier.linear(0, "q") is not before
    assert classifier.count_parameters() == parameters, "adapters are not counted"


def test_a_model_classifies_unless_told_otherwise(classifier: Classifier) -> None:
    assert classifier.task is CLASSIFICATION


@pytest.mark.parametrize("kind", FAMILIES)
def test_backbone_and_head_are_all_of_the_model(kind: str) -> None:
    classifier = tiny_classifier(kind)
    parts = [*classifier.backbone.parameters(), *classifier.head_module.parameters()]
    assert {id(parameter) for parameter in parts} == {id(parameter) for parameter in classifier.model.parameters()}
    assert classifier.count_parameters() == sum(parameter.numel() for parameter in parts)


def test_the_device_is_that_of_the_weights() -> None:
    classifier = tiny_classifier("bert")
    assert classifier.device == torch.device("cpu")
    classifier.model.to("meta")
    assert classifier.device == torch.device("meta")
