import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fedcore.core.errors import ConfigError
from fedcore.nn.criteria.group_scores import combine
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, factors, trainable_parameters
from fedcore.nn.training.group_state import GroupState
from tests.scored import adapted_classifier, assert_scores, grouped, labelled_batch, loss_of
from tests.tiny_classifiers import FAMILIES, tiny_classifier


def brute_force(classifier: Classifier) -> dict[tuple[int, str], np.ndarray]:
    """Merge into float32 weights that ask for gradients, and let autograd form them whole."""
    weights = {}
    geometry = classifier.geometry
    for layer in range(geometry.layers):
        for module in geometry.modules:
            linear = classifier.linear(layer, module)
            base = linear.get_base_layer() if hasattr(linear, "get_base_layer") else linear
            if base is not linear:
                a, b = (each.detach() for each in factors(linear))
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
    before = {name: each.grad.clone() for name, each in parameters.items()}
    classifier.model.train()
    TaylorScorer().scores(classifier, labelled_batch())
    assert classifier.model.training
    for name, parameter in classifier.model.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    for name, parameter in parameters.items():
        torch.testing.assert_close(parameter.grad, before[name], rtol=0, atol=0)
    assert not classifier.linear(0, "q")._forward_hooks


class LargestTensor(TorchDispatchMode):
    """Remembers the shapes of all tensors made."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        views = {"aten::t", "aten::view", "aten::detach", "aten::transpose.int", "aten::alias", "aten::permute"}
        if func.name() not in views:
            self.shapes |= {tuple(leaf.shape) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


@pytest.mark.parametrize("family", FAMILIES)
def test_taylor_makes_no_buffer_of_a_weight_matrix(family: str) -> None:
    classifier = adapted_classifier(family)
    geometry = classifier.geometry
    with LargestTensor() as seen:
        TaylorScorer(block_rows=4).scores(classifier, labelled_batch())
    weights = {geometry.shape(module) for module in geometry.modules}
    assert not seen.shapes & (weights | {shape[::-1] for shape in weights})


def test_lora_taylor_makes_no_buffer_of_a_weight_matrix() -> None:
    classifier = adapted_classifier("llama-gqa")
    geometry = classifier.geometry
    loss_of(classifier).backward()
    with LargestTensor() as seen:
        LoraTaylorScorer(GroupState.full(geometry), block_rows=4).observe(classifier)
    assert not seen.shapes & {geometry.shape(module) for module in geometry.modules}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("second_order", [False, True])
def test_lora_taylor_equals_the_formula(family: str, second_order: bool) -> None:
    classifier = adapted_classifier(family)
    geometry = classifier.geometry
    loss_of(classifier).backward()
    vectors = {}
    for key, layer in adapted(classifier):
        _, index, module = key.split(".")
        if geometry.cut(module) is None:
            continue
        a, b = (each.detach() for each in factors(layer))
        da, db = (each.grad for each in factors(layer))
        estimate = db @ a + b @ da - (db @ da if second_order else 0)
        effective = layer.get_base_layer().weight + 2.0 * b @ a
        vectors[int(index), module] = grouped(geometry, module, (estimate * effective).detach().numpy())
    scorer = LoraTaylorScorer(GroupState.full(geometry), second_order=second_order, block_rows=5)
    scorer.observe(classifier)
    assert_scores(scorer.scores(classifier, {}), geometry, vectors)


def test_lora_taylor_averages_over_steps() -> None:
    classifier = adapted_classifier("bert")
    loss_of(classifier).backward()
    scorer = LoraTaylorScorer(GroupState.full(classifier.geometry))
    scorer.observe(classifier)
    first = scorer.state
    scorer.observe(classifier)
    np.testing.assert_allclose(scorer.state.heads, 1.9 * first.heads, rtol=1e-5)
    np.testing.assert_allclose(scorer.state.channels, 1.9 * first.channels, rtol=1e-5)


def test_lora_taylor_skips_a_step_with_nan() -> None:
    classifier = adapted_classifier("bert")
    loss_of(classifier).backward()
    scorer = LoraTaylorScorer(GroupState.full(classifier.geometry))
    scorer.observe(classifier)
    before = scorer.state
    factors(classifier.linear(1, "v"))[0].grad[0, 0] = float("nan")
    scorer.observe(classifier)
    assert scorer.state is before


def test_lora_taylor_without_adapters_on_channels_is_refused() -> None:
    classifier = adapted_classifier("bert", ("q", "v"))
    loss_of(classifier).backward()
    with pytest.raises(ConfigError, match="channels of layer 0"):
        LoraTaylorScorer(GroupState.full(classifier.geometry)).observe(classifier)


def test_scores_have_norm_one_and_a_silent_layer_is_uniform() -> None:
    classifier = tiny_classifier("bert")
    geometry = classifier.geometry
    empty = LoraTaylorScorer(GroupState.full(geometry)).scores(classifier, {})
    for each in (*empty.heads, *empty.channels):
        assert np.linalg.norm(each) == pytest.approx(1.0, rel=1e-5)
        assert np.ptp(each) == 0


def test_members_count_alike_whatever_their_size() -> None:
    geometry = tiny_classifier("bert").geometry
    one, two = torch.arange(1.0, 1 + geometry.head_units), torch.ones(geometry.ffn)
    vectors = {
        (i, m): (one if geometry.cut(m).unit == "head" else two)
        for i in range(geometry.layers)
        for m in geometry.modules
    }
    scaled = {key: value * (1000.0 if key[1] == "q" else 1.0) for key, value in vectors.items()}
    for left, right in zip(combine(vectors, geometry).heads, combine(scaled, geometry).heads, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-6)
