from collections.abc import Iterator

import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.core.model.adapter import AdapterSpec, initial_adapter
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import (
    adapted,
    attach,
    factors,
    load_adapter,
    merge,
    read_adapter,
    trainable_parameters,
)
from tests.tiny_classifiers import FAMILIES, tiny_classifier
from tests.tiny_models import tiny_batch

SCALE = 2.0


@pytest.fixture(params=FAMILIES)
def classifier(request: pytest.FixtureRequest) -> Iterator[Classifier]:
    made = tiny_classifier(request.param)
    made.model.eval()
    yield made


def random_adapter(classifier: Classifier, rank: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    head = tuple((name, tuple(parameter.shape)) for name, parameter in sorted(classifier.head_parameters().items()))
    spec = AdapterSpec(geometry=classifier.geometry, rank=rank, targets=classifier.geometry.modules, head=head)
    return {
        name: (rng.standard_normal(value.shape) * 0.2).astype(np.float32)
        for name, value in initial_adapter(spec, rng).items()
    }


def with_adapter(classifier: Classifier, rank: int) -> dict[str, np.ndarray]:
    attach(classifier, rank=rank, scale=SCALE, targets=classifier.geometry.modules)
    tensors = random_adapter(classifier, rank)
    load_adapter(classifier, tensors)
    return tensors


def logits(classifier: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier.model(**tiny_batch()).logits


def test_attaching_leaves_the_function_as_it_is(classifier: Classifier) -> None:
    before = logits(classifier)
    attach(classifier, rank=3, scale=SCALE, targets=classifier.geometry.modules)
    torch.testing.assert_close(logits(classifier), before, rtol=0, atol=0)


def test_only_factors_and_head_are_trainable(classifier: Classifier) -> None:
    attach(classifier, rank=3, scale=SCALE, targets=("q", "down"))
    wanted = {id(parameter) for parameter in trainable_parameters(classifier).values()}
    assert {id(parameter) for parameter in classifier.model.parameters() if parameter.requires_grad} == wanted
    assert {name.split(".")[2] for name in trainable_parameters(classifier) if name.startswith("layers")} == {
        "q",
        "down",
    }


def test_names_and_shapes_are_those_of_the_adapter_spec(classifier: Classifier) -> None:
    tensors = with_adapter(classifier, 3)
    read = read_adapter(classifier)
    assert {name: value.shape for name, value in read.items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }
    assert list(read) == list(trainable_parameters(classifier))


def test_what_is_loaded_is_read_back(classifier: Classifier) -> None:
    tensors = with_adapter(classifier, 3)
    for name, value in read_adapter(classifier).items():
        np.testing.assert_array_equal(value, tensors[name])
        assert value.dtype == np.float32


def test_the_scale_is_folded_into_b_on_the_wire(classifier: Classifier) -> None:
    tensors = with_adapter(classifier, 3)
    key, layer = next(adapted(classifier))
    inputs = torch.randn(5, layer.in_features, generator=torch.Generator().manual_seed(0))
    delta = torch.from_numpy(tensors[f"{key}.B"] @ tensors[f"{key}.A"])
    with torch.no_grad():
        expected = layer.get_base_layer()(inputs) + inputs @ delta.T
        torch.testing.assert_close(layer(inputs), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(factors(layer)[1].detach().numpy() * SCALE, tensors[f"{key}.B"], rtol=1e-6)


def test_loading_another_rank_resizes(classifier: Classifier) -> None:
    attach(classifier, rank=2, scale=SCALE, targets=classifier.geometry.modules)
    tensors = random_adapter(classifier, 5)
    load_adapter(classifier, tensors)
    for name, value in read_adapter(classifier).items():
        np.testing.assert_array_equal(value, tensors[name])
    assert logits(classifier).isfinite().all()


def test_loading_the_same_rank_keeps_the_parameters(classifier: Classifier) -> None:
    with_adapter(classifier, 3)
    before = {name: id(parameter) for name, parameter in trainable_parameters(classifier).items()}
    load_adapter(classifier, random_adapter(classifier, 3, seed=1))
    assert before == {name: id(parameter) for name, parameter in trainable_parameters(classifier).items()}


def test_attaching_repeats_for_a_seed() -> None:
    first, second, other = (tiny_classifier("bert") for _ in range(3))
    for classifier, seed, rank in ((first, 1, 2), (second, 1, 4), (other, 2, 2)):
        attach(classifier, rank=rank, scale=SCALE, targets=("q",), seed=seed)
    a, b, c = (read_adapter(classifier)["layers.1.q.A"] for classifier in (first, second, other))
    np.testing.assert_array_equal(a, b[:2])
    assert not np.array_equal(a, c)


def test_merging_keeps_the_function_and_leaves_plain_layers(classifier: Classifier) -> None:
    with_adapter(classifier, 3)
    before = logits(classifier)
    merge(classifier)
    torch.testing.assert_close(logits(classifier), before, rtol=1e-4, atol=1e-5)
    assert not list(adapted(classifier))
    assert not [name for name, _ in classifier.model.named_parameters() if "lora" in name]
    assert type(classifier.linear(0, "q")) is torch.nn.Linear


def test_merging_and_attaching_again_works(classifier: Classifier) -> None:
    with_adapter(classifier, 3)
    before = logits(classifier)
    merge(classifier)
    attach(classifier, rank=2, scale=SCALE, targets=("q",))
    torch.testing.assert_close(logits(classifier), before, rtol=1e-4, atol=1e-5)


def test_factors_are_float32_on_a_bfloat16_base() -> None:
    classifier = tiny_classifier("bert")
    classifier.backbone.to(torch.bfloat16)
    attach(classifier, rank=2, scale=SCALE, targets=("q", "up"))
    assert {parameter.dtype for name, parameter in trainable_parameters(classifier).items() if "layers" in name} == {
        torch.float32
    }
    merge(classifier)
    assert {parameter.dtype for parameter in classifier.model.parameters()} == {torch.float32}


def test_attaching_twice_is_refused(classifier: Classifier) -> None:
    attach(classifier, rank=2, scale=SCALE, targets=("q",))
    with pytest.raises(ModelError, match="attached already"):
        attach(classifier, rank=2, scale=SCALE, targets=("q",))


@pytest.mark.parametrize(("rank", "targets"), [(0, ("q",)), (2, ()), (2, ("pooler",))])
def test_impossible_adapters_are_refused(rank: int, targets: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="expected rank >= 1 and some of"):
        attach(tiny_classifier("bert"), rank=rank, scale=SCALE, targets=targets)


def test_missing_tensors_and_wrong_shapes_are_refused(classifier: Classifier) -> None:
    tensors = with_adapter(classifier, 2)
    with pytest.raises(ModelError, match=r"missing \['layers.0.q.B'\]"):
        load_adapter(classifier, {name: tensor for name, tensor in tensors.items() if name != "layers.0.q.B"})
    with pytest.raises(ModelError, match=r"layers\.0\.q: factors"):
        load_adapter(classifier, tensors | {"layers.0.q.B": tensors["layers.0.q.B"][1:]})
