import numpy as np
import pytest
import torch

from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import factors, trainable_parameters
from tests.scored import LargestTensor, adapted_classifier, assert_scores, grouped, labelled_batch, loss_of
from tests.tiny_classifiers import FAMILIES, tiny_classifier


def brute_force(classifier: Classifier) -> dict[tuple[int, str], np.ndarray]:
    """Merge the adapters into weights that require gradients, and let autograd form these whole."""
    weights = {}
    geometry = classifier.geometry
    for layer in range(geometry.layers):
        for module in geometry.modules:
            linear = classifier.linear(layer, module)
            base = linear.get_base_layer() if hasattr(linear, "get_base_layer") else linear
            if base is not linear:
                a, b = (factor.detach() for factor in factors(linear))
                base.weight.data += 2.0 * b @ a
                linear.scaling["default"] = 0.0
            base.weight.requires_grad_(True)
            weights[layer, module] = base.weight
    loss_of(classifier).backward()
    return {
        key: grouped(geometry, key[1], (weight.grad * weight.detach()).numpy())
        for key, weight in weights.items()
        if geometry.cut(key[1]) is not None
    }


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("block_rows", [1, 5, 64])
def test_taylor_equals_brute_force(family: str, block_rows: int) -> None:
    scores = TaylorScorer(block_rows=block_rows).scores(adapted_classifier(family), labelled_batch())
    classifier = adapted_classifier(family)
    assert_scores(scores, classifier.geometry, brute_force(classifier))


@pytest.mark.parametrize("targets", [None, ("v",), ("down",)])
def test_taylor_needs_no_adapter_anywhere(targets: tuple[str, ...] | None) -> None:
    def make() -> Classifier:
        return tiny_classifier("bert") if targets is None else adapted_classifier("bert", targets)

    classifier = make()
    scores = TaylorScorer().scores(classifier, labelled_batch())
    assert_scores(scores, classifier.geometry, brute_force(make()))


def test_taylor_leaves_gradients_and_modes_alone() -> None:
    classifier = adapted_classifier("llama-gqa")
    loss_of(classifier).backward()
    parameters = trainable_parameters(classifier)
    before = {name: parameter.grad.clone() for name, parameter in parameters.items()}
    classifier.model.train()
    TaylorScorer().scores(classifier, labelled_batch())
    assert classifier.model.training
    for name, parameter in classifier.model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, before[name], rtol=0, atol=0)
    assert not classifier.linear(0, "q")._forward_hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_taylor_makes_no_buffer_of_a_weight_matrix(family: str) -> None:
    classifier = adapted_classifier(family)
    geometry = classifier.geometry
    with LargestTensor() as seen:
        TaylorScorer(block_rows=4).scores(classifier, labelled_batch())
    weights = {geometry.shape(module) for module in geometry.modules}
    assert not seen.shapes & (weights | {shape[::-1] for shape in weights})
