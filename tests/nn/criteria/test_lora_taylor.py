import numpy as np
import pytest

from fedcore.core.errors import ConfigError
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.model.lora import adapted, factors
from fedcore.nn.training.scorer import GroupState
from tests.scored import LargestTensor, adapted_classifier, assert_scores, grouped, loss_of
from tests.tiny_classifiers import FAMILIES, tiny_classifier


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
        a, b = (factor.detach() for factor in factors(layer))
        da, db = (factor.grad for factor in factors(layer))
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
    for vector in (*empty.heads, *empty.channels):
        assert np.linalg.norm(vector) == pytest.approx(1.0, rel=1e-5)
        assert np.ptp(vector) == 0
