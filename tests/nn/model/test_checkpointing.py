from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.model.checkpointing import checkpointed
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, read_adapter
from fedcore.nn.training.step_memory import measure_step_memory
from fedcore.nn.training.train import TrainingAids, TrainResult, train
from tests.tiny_classifiers import SPEC, learnable_rows, tiny_classifier


def ready(kind: str) -> Classifier:
    classifier = tiny_classifier(kind)
    attach(classifier, rank=3, scale=2.0, targets=classifier.geometry.modules)
    return classifier


def trained(classifier: Classifier, criterion: str, *, checkpointing: bool) -> TrainResult:
    scorer = make_scorer(criterion, Beginning(geometry=classifier.geometry, seed=0))
    spec = replace(SPEC, importance=criterion, checkpointing=checkpointing)
    return train(
        classifier, learnable_rows(12), spec=spec, steps=3, seed=1, aids=TrainingAids(scorer=scorer, score=True)
    )


@pytest.mark.parametrize(
    ("kind", "criterion"),
    [
        *((kind, criterion) for kind in ("bert", "llama-gqa") for criterion in ("taylor", "lora-taylor", "wanda-sp")),
        ("gpt2", "taylor"),  # its layers have names of their own
        ("gpt-neox", "taylor"),
    ],
)
def test_values_and_scores_are_the_same(kind: str, criterion: str) -> None:
    plain, twice = ready(kind), ready(kind)
    expected, got = (trained(model, criterion, checkpointing=on) for model, on in ((plain, False), (twice, True)))
    for name, value in read_adapter(plain).items():
        np.testing.assert_allclose(read_adapter(twice)[name], value, rtol=0, atol=1e-6)
    assert got.metrics.loss_after == pytest.approx(expected.metrics.loss_after, abs=1e-6)
    assert isinstance(got.scores, GroupScores) and isinstance(expected.scores, GroupScores)
    for mine, theirs in zip(got.scores.channels, expected.scores.channels, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_a_step_holds_less_memory_a_token() -> None:
    classifier = ready("llama-gqa")
    plain = measure_step_memory(classifier, SPEC, rows=8, width=16)
    twice = measure_step_memory(classifier, replace(SPEC, checkpointing=True), rows=8, width=16)
    assert twice.token_mb < 0.85 * plain.token_mb


def test_layers_are_their_own_again_afterwards() -> None:
    classifier = ready("bert")
    with pytest.raises(ZeroDivisionError), checkpointed(classifier):
        raise ZeroDivisionError
    assert all("forward" not in vars(module) for module in classifier.model.modules())
    with checkpointed(classifier, on=False):
        assert all("forward" not in vars(module) for module in classifier.model.modules())
    assert torch.is_grad_enabled()
