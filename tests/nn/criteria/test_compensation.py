import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.nn.criteria.compensation import compensate, input_means
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.surgery import positions, shrink
from tests.scored import adapted_classifier, labelled_batch
from tests.tiny_models import random_keep_set


def outputs(classifier: Classifier, inputs: torch.Tensor, layer: int, module: str) -> torch.Tensor:
    with torch.no_grad():
        return classifier.linear(layer, module)(inputs)


@pytest.mark.parametrize("family", ["bert", "llama-mqa"])
def test_the_mean_output_of_a_layer_survives_the_cut(family: str) -> None:
    classifier = adapted_classifier(family)
    geometry, dense = classifier.geometry, classifier.keep_set
    half = random_keep_set(dense, heads=2, channels=24)
    drawn = torch.Generator().manual_seed(2)
    inputs = {
        (layer, module): torch.randn(50, geometry.shape(module)[1], generator=drawn) + 1
        for layer in range(geometry.layers)
        for module in ("o", "down")
    }
    before = {key: outputs(classifier, tensor, *key).mean(dim=0) for key, tensor in inputs.items()}
    compensate(classifier, half, {key: tensor.mean(dim=0) for key, tensor in inputs.items()})
    shrink(classifier, half)
    for (layer, module), tensor in inputs.items():
        kept = positions(geometry, dense, half, layer, module)
        assert kept is not None
        after = outputs(classifier, tensor[:, torch.from_numpy(kept)], layer, module).mean(dim=0)
        torch.testing.assert_close(after, before[layer, module], rtol=1e-4, atol=1e-5)


def test_means_are_those_of_all_true_tokens() -> None:
    classifier = adapted_classifier("bert")
    seen = []
    handle = classifier.linear(1, "down").register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    batches = [
        labelled_batch(),
        {name: tensor[:1, :3] if tensor.dim() == 2 else tensor[:1] for name, tensor in labelled_batch().items()},
    ]
    means = input_means(classifier, batches)
    handle.remove()
    tokens = [states[batch["attention_mask"].bool()] for states, batch in zip(seen, batches, strict=True)]
    torch.testing.assert_close(means[1, "down"], torch.cat(tokens).mean(dim=0))
    assert set(means) == {(layer, module) for layer in range(2) for module in ("o", "down")}


def test_keeping_everything_changes_no_bias() -> None:
    classifier = adapted_classifier("bert")
    before = classifier.base_linear(0, "o").bias.detach().clone()
    compensate(classifier, classifier.keep_set, input_means(classifier, [labelled_batch()]))
    np.testing.assert_array_equal(classifier.base_linear(0, "o").bias.detach().numpy(), before.numpy())


def test_a_model_without_these_biases_is_refused() -> None:
    classifier = adapted_classifier("llama-gqa")
    half = random_keep_set(classifier.keep_set, heads=2, channels=24)
    with pytest.raises(ModelError, match="o of a model of type 'llama' has no bias"):
        compensate(classifier, half, input_means(classifier, [labelled_batch()]))
