"""A loaded classifier: what is in it, by canonical name."""

import pytest

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
