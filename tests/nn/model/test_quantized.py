import itertools
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.core.model.quantization import PACKED, weight_bytes
from fedcore.nn.batched.lora import stacked
from fedcore.nn.criteria.group_scores import effective_weight
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.export import merged_state
from fedcore.nn.model.lora import adapted, attach, factors, load_adapter, merge, read_adapter, trainable_parameters
from fedcore.nn.model.quantized import PackedLinear, check_quantizable, dense_weight, is_packed, quantize, round_weights
from fedcore.nn.model.shift import add_shift
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.objective import objective_of
from tests.scored import labelled_batch
from tests.tiny_classifiers import tiny_classifier
from tests.tiny_models import random_keep_set

KINDS = ("bert", "llama-gqa", "phi3", "gpt2")
CASES = list(itertools.product(KINDS, PACKED))


def cut_model(kind: str, form: str, how: Callable[[Classifier, str], None] = quantize) -> Classifier:
    """Cut, quantise, and put an adapter on that does something."""
    classifier = tiny_classifier(kind)
    shrink(classifier, random_keep_set(classifier.keep_set, heads=2, channels=24))
    how(classifier, form)
    attach(classifier, rank=2, scale=2.0, targets=classifier.geometry.modules)
    rng = np.random.default_rng(0)
    drawn = {name: rng.normal(0, 0.1, old.shape).astype(np.float32) for name, old in read_adapter(classifier).items()}
    load_adapter(classifier, drawn)
    return classifier


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_a_packed_model_computes_what_its_rounded_weights_say(kind: str, form: str) -> None:
    packed, rounded = cut_model(kind, form), cut_model(kind, form, round_weights)
    batch = labelled_batch()
    with torch.no_grad():
        torch.testing.assert_close(forward_logits(packed, batch), forward_logits(rounded, batch), atol=1e-4, rtol=1e-3)
    for layer, module in itertools.product(range(packed.geometry.layers), packed.geometry.modules):
        base = packed.base_linear(layer, module)
        assert is_packed(base) and not is_packed(rounded.base_linear(layer, module))
        assert tuple(dense_weight(base).shape) == packed.geometry.shape(module, packed.keep_set.counts)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_rounding_loses_as_much_as_the_form_does(kind: str, form: str) -> None:
    dense, rounded = cut_model(kind, "none", round_weights), cut_model(kind, form, round_weights)
    for layer, module in itertools.product(range(dense.geometry.layers), dense.geometry.modules):
        true, got = (each.base_linear(layer, module).weight for each in (dense, rounded))
        error = float((got - true).norm() / true.norm())
        assert 0.0 < error < {"int8": 0.02, "nf4": 0.15}[form]


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_adapters_train_on_a_packed_base_as_on_the_rounded_one(kind: str, form: str) -> None:
    gradients = []
    for how in (quantize, round_weights):
        classifier = cut_model(kind, form, how)
        batch = labelled_batch()
        loss = objective_of(classifier)(forward_logits(classifier, batch), batch["labels"])
        gradients.append(torch.autograd.grad(loss, list(trainable_parameters(classifier).values())))
    for packed, rounded in zip(*gradients, strict=True):
        torch.testing.assert_close(packed, rounded, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("criterion", ["taylor", "magnitude", "wanda-sp", "flap", "amp"])
@pytest.mark.parametrize(("kind", "form"), [("llama-gqa", "nf4"), ("bert", "int8")])
def test_criteria_read_the_weights_that_are_computed_with(kind: str, form: str, criterion: str) -> None:
    both = []
    for how in (quantize, round_weights):
        classifier = cut_model(kind, form, how)
        scorer = make_scorer(criterion, Beginning(geometry=classifier.geometry, seed=0))
        both.append(scorer.scores(classifier, labelled_batch()))
    for packed, rounded in zip((*both[0].heads, *both[0].channels), (*both[1].heads, *both[1].channels), strict=True):
        np.testing.assert_allclose(packed, rounded, rtol=1e-3, atol=1e-5)


def test_effective_weights_of_a_packed_layer_hold_the_adapter() -> None:
    classifier = cut_model("llama-gqa", "nf4")
    layer = classifier.linear(0, "up")
    a, b = factors(dict(adapted(classifier))["layers.0.up"])
    expected = dense_weight(classifier.base_linear(0, "up")).float() + 2.0 * b @ a
    torch.testing.assert_close(effective_weight(layer, slice(3, 9)), expected[3:9])


@pytest.mark.parametrize("form", PACKED)
def test_what_would_read_bytes_as_weights_is_refused(form: str) -> None:
    classifier = cut_model("llama-gqa", form)
    geometry = classifier.geometry
    smaller = random_keep_set(classifier.keep_set, heads=1, channels=8)
    shift = {"layers.0.q.W": np.zeros(geometry.shape("q", classifier.keep_set.counts), np.float32)}
    for action in (
        lambda: shrink(classifier, smaller),
        lambda: merge(classifier),
        lambda: merged_state(classifier),
        lambda: add_shift(classifier, shift),
        lambda: stacked(classifier).__enter__(),
    ):
        with pytest.raises(ModelError, match=r"cannot .* a quantised layer: .* load the model anew"):
            action()
    with pytest.raises(ModelError, match="expected a plain linear layer, got"):
        quantize(classifier, form)


@pytest.mark.parametrize("form", PACKED)
def test_packed_weights_take_the_bytes_that_the_cost_model_says(form: str) -> None:
    classifier = cut_model("llama", form)
    base = classifier.base_linear(0, "up")
    shape = classifier.geometry.shape("up", classifier.keep_set.counts)
    bytes_ = base.weight.numel() * base.weight.element_size()
    assert 0.8 * weight_bytes(form, shape, 4) <= bytes_ <= weight_bytes(form, shape, 4)
    assert weight_bytes(form, shape, 4) < 0.4 * weight_bytes("none", shape, 4)


@pytest.mark.parametrize("shape", [(8, 16), (24, 32), (40, 48), (7, 5), (64, 96), (1, 1), (30, 544)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("form", "most"), [("int8", 0.02), ("nf4", 0.13)])
def test_any_shape_that_pruning_leaves_is_rounded_as_well(
    form: str, most: float, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    linear = torch.nn.Linear(shape[1], shape[0], dtype=dtype)
    linear.weight.data = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    got = PackedLinear(linear, form).unpacked()
    assert got.dtype is dtype
    assert float((got.float() - linear.weight.float()).norm() / linear.weight.float().norm()) < most


def test_without_the_library_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ModelError, match=r'pip install "fedcore\[quantize\]"'):
        check_quantizable("nf4")
    check_quantizable("none")


def test_a_platform_without_kernels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no kernels for mps, expected one of cpu, cuda, xpu; use quantize = .int8"):
        check_quantizable("nf4", "mps")
    with pytest.raises(ModelError, match=r"expected one of none, int8, nf4; got 'int3'"):
        check_quantizable("int3")
