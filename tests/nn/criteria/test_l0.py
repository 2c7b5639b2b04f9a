import numpy as np
import pytest
import torch

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.nn.batched.train import VirtualTask, train_batched
from fedcore.nn.criteria.hard_concrete import openness, shifted_to
from fedcore.nn.criteria.l0 import OPENNESS, RATE, L0Scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import read_adapter
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.train import TrainingAids, TrainResult, train
from tests.scored import adapted_classifier, loss_of
from tests.tiny_classifiers import FAMILIES, learnable_rows
from tests.tiny_models import random_keep_set

SPEC = TrainingSpec(
    batch_size=4,
    learning_rate=1e-3,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="l0",
    keep_optimizer=False,
    codec="identity",
)


def scorer_of(classifier: Classifier, seed: int = 0) -> L0Scorer:
    return L0Scorer(GroupState.full(classifier.geometry), seed=seed)


def trained(classifier: Classifier, scorer: L0Scorer, steps: int = 3) -> TrainResult:
    aids = TrainingAids(scorer=scorer, score=True)
    return train(classifier, learnable_rows(20), spec=SPEC, steps=steps, seed=0, aids=aids)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_adams_and_then_the_shift(family: str) -> None:
    classifier = adapted_classifier(family)
    scorer = scorer_of(classifier)
    with scorer.during_steps(classifier):
        before = {key: gate.detach().clone() for key, gate in scorer._gates.items()}
        loss_of(classifier).backward()
        gradients = {key: gate.grad.clone() for key, gate in scorer._gates.items()}
        scorer.observe(classifier)
    for (layer, module), gradient in gradients.items():
        expected = shifted_to(before[layer, module] - RATE * gradient / (gradient.abs() + 1e-8), OPENNESS)
        got = (scorer.state.heads if module == "o" else scorer.state.channels)[layer]
        np.testing.assert_allclose(got, expected.numpy(), atol=1e-4)
    assert any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_gates_multiply_whole_groups_within_steps_only(family: str) -> None:
    classifier = adapted_classifier(family)
    geometry = classifier.geometry
    plain = float(loss_of(classifier).detach())
    closed = GroupState(
        heads=np.full((geometry.layers, geometry.head_units), 0.0, dtype=np.float32),
        channels=np.full((geometry.layers, geometry.ffn), 0.0, dtype=np.float32),
    )
    closed.channels[0, 0] = -60.0  # never open
    seen = []
    handle = classifier.base_linear(0, "down").register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    scorer = L0Scorer(closed, seed=1)
    with scorer.during_steps(classifier):
        assert float(loss_of(classifier).detach()) != plain
    handle.remove()
    assert (seen[0][..., 0] == 0).all() and (seen[0][..., 1:] != 0).any()
    assert float(loss_of(classifier).detach()) == plain


def test_training_learns_gates_of_kept_groups_and_leaves_no_hook() -> None:
    classifier = adapted_classifier("bert")
    shrink(classifier, random_keep_set(classifier.keep_set, heads=3, channels=30))
    scorer = scorer_of(classifier)
    result = trained(classifier, scorer)
    assert result.scores is not None
    kept = classifier.keep_set
    for layer, (heads, channels) in enumerate(zip(kept.heads, kept.channels, strict=True)):
        for state, held, scores in (
            (scorer.state.heads[layer], heads, result.scores.heads[layer]),
            (scorer.state.channels[layer], channels, result.scores.channels[layer]),
        ):
            gone = sorted(set(range(len(state))) - set(held))
            assert (state[gone] == 0).all() and np.ptp(state[list(held)]) > 0
            expected = openness(torch.from_numpy(state[list(held)])).numpy()
            assert expected.mean() == pytest.approx(OPENNESS, abs=1e-4)
            np.testing.assert_allclose(scores, expected / np.linalg.norm(expected), rtol=1e-4)
    assert not classifier.linear(0, "o")._forward_pre_hooks


def test_gates_go_on_from_what_they_were_and_depend_on_the_seed() -> None:
    first = scorer_of(adapted_classifier("bert"))
    trained(adapted_classifier("bert"), first)
    again, other = scorer_of(adapted_classifier("bert")), scorer_of(adapted_classifier("bert"), seed=5)
    trained(adapted_classifier("bert"), again)
    trained(adapted_classifier("bert"), other)
    np.testing.assert_array_equal(first.state.channels, again.state.channels)
    assert (first.state.channels != other.state.channels).any()
    later = L0Scorer(first.state, seed=0)
    assert trained(adapted_classifier("bert"), later, steps=0).scores is not None
    np.testing.assert_array_equal(later.state.channels, first.state.channels)


def test_a_step_with_nan_moves_no_gate() -> None:
    classifier = adapted_classifier("bert")
    scorer = scorer_of(classifier)
    with scorer.during_steps(classifier):
        loss_of(classifier).backward()
        scorer._gates[0, "o"].grad[0] = float("nan")
        scorer.observe(classifier)
    assert (scorer.state.heads == 0).all() and (scorer.state.channels == 0).all()


def test_a_channel_that_only_harms_closes_before_one_that_helps() -> None:
    classifier = adapted_classifier("bert")
    scorer = scorer_of(classifier)
    with scorer.during_steps(classifier):
        for _ in range(10):
            for gate in scorer._gates.values():
                gate.grad = torch.zeros_like(gate)
            scorer._gates[0, "down"].grad[3], scorer._gates[0, "down"].grad[4] = 1.0, -1.0
            scorer.observe(classifier)
    scores = scorer.scores(classifier, {}).channels[0]
    assert scores[3] == scores.min() and scores[4] == scores.max()


def test_devices_are_not_scored_together() -> None:
    classifier = adapted_classifier("bert")
    with pytest.raises(ValueError, match="one by one"):
        train_batched(
            classifier,
            read_adapter(classifier),
            [VirtualTask(rows=learnable_rows(4), seed=0)],
            spec=SPEC,
            steps=1,
            score=True,
        )
