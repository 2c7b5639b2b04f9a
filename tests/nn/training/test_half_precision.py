"""Training in 16 bits, on the CPU: what stays float32, what float16 leaves out, and where it gives up."""

from typing import Any

import numpy as np
import pytest
import torch

from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError, ModelError
from fedcore.core.precision import HALF
from fedcore.nn.accelerator.loss_scale import FIRST
from fedcore.nn.batched.train import VirtualTask, train_batched
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, load_adapter, read_adapter, trainable_parameters
from fedcore.nn.training.batches import Batch, collate
from fedcore.nn.training.evaluate import predict
from fedcore.nn.training.objective import objective_of
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.train import TrainingAids, TrainResult, train, training_step
from tests.tiny_classifiers import SPEC, learnable_rows, tiny_classifier

ROWS = learnable_rows(24)
KINDS = ("bert", "llama-gqa")
GRADIENT = "fedcore.nn.training.train.nn.utils.clip_grad_norm_"


def ready(kind: str, precision: str) -> Classifier:
    base = tiny_classifier(kind)
    classifier = load_classifier(base.folder, labels=base.labels, precision=precision)
    attach(classifier, rank=3, scale=2.0, targets=classifier.geometry.modules)
    return classifier


def batch_and_optimizer(classifier: Classifier) -> tuple[Batch, torch.optim.Optimizer]:
    optimizer = make_optimizer(trainable_parameters(classifier), learning_rate=1e-2, weight_decay=0.0)
    return collate(ROWS, range(8)), optimizer


def trained(classifier: Classifier, **aids: Any) -> TrainResult:
    return train(classifier, ROWS, spec=SPEC, steps=4, seed=1, aids=TrainingAids(**aids))


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("kind", KINDS)
def test_values_are_near_those_of_float32(kind: str, precision: str) -> None:
    exact, half = ready(kind, "float32"), ready(kind, precision)
    aids = {"scorer": TaylorScorer(), "score": True, "labels": LabelPlan(one_sided=0.5)}
    expected, got = trained(exact, **aids), trained(half, **aids)
    assert got.metrics.loss_after == pytest.approx(expected.metrics.loss_after, abs=0.02)
    assert got.metrics.adapter_importance == pytest.approx(expected.metrics.adapter_importance, rel=0.2)
    assert got.metrics.peak_memory_mb < expected.metrics.peak_memory_mb
    assert expected.scores is not None and got.scores is not None
    np.testing.assert_allclose(got.scores.channels[0], expected.scores.channels[0], atol=0.03)
    assert all(parameter.dtype == torch.float32 for parameter in trainable_parameters(half).values())
    assert np.abs(predict(half, ROWS) - predict(exact, ROWS)).max() < 0.2


def test_a_batch_of_devices_computes_in_bfloat16_as_one_does() -> None:
    classifier = ready("bert", "bfloat16")
    before = read_adapter(classifier)
    alone = trained(classifier)
    own = read_adapter(classifier)
    load_adapter(classifier, before)
    task = VirtualTask(rows=ROWS, seed=1)
    together = train_batched(classifier, before, [task], spec=SPEC, steps=4, score=False)
    (result,) = together.results
    assert isinstance(result, TrainResult)
    assert result.metrics.loss_after == pytest.approx(alone.metrics.loss_after, abs=0.02)
    for name, value in together.increments.items():
        np.testing.assert_allclose(value[0], own[name] - before[name], atol=6e-3)


def test_a_step_with_an_infinite_gradient_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ready("llama-gqa", "float16")
    before, objective, seen = read_adapter(classifier), objective_of(classifier), []
    batch, optimizer = batch_and_optimizer(classifier)
    with monkeypatch.context() as patched:
        patched.setattr(GRADIENT, lambda *_: torch.tensor(torch.inf))
        training_step(classifier, optimizer, batch, objective=objective, after_backward=lambda: seen.append(1))
    for name, value in read_adapter(classifier).items():
        np.testing.assert_array_equal(value, before[name])
    assert objective.scale.value == FIRST / 2 and not seen and not optimizer.state
    training_step(classifier, optimizer, batch, objective=objective, after_backward=lambda: seen.append(1))
    assert seen == [1] and optimizer.state


def test_rounds_with_steps_left_out_have_finite_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    norms, real = iter([torch.inf]), torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(GRADIENT, lambda *given: torch.tensor(next(norms, None) or float(real(*given))))
    classifier = ready("bert", "float16")
    result = trained(classifier, scorer=LoraTaylorScorer(GroupState.full(classifier.geometry)), score=True)
    assert np.isfinite(result.metrics.adapter_importance) and result.metrics.adapter_importance > 0
    assert {moment.step for moment in result.moments.values()} == {3}


def test_float16_that_is_too_small_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ready("bert", "float16")
    with torch.no_grad():
        trainable_parameters(classifier)["layers.0.o.B"].fill_(1e6)
    batch, optimizer = batch_and_optimizer(classifier)
    with pytest.raises(FedcoreError, match=r'step 1: the loss is nan.*set training\.precision = "float32"'):
        training_step(classifier, optimizer, batch)
    monkeypatch.setattr(GRADIENT, lambda *_: torch.tensor(torch.inf))
    fine = ready("bert", "float16")
    batch, optimizer = batch_and_optimizer(fine)
    objective = objective_of(fine)
    with pytest.raises(FedcoreError, match=r"the gradient norm is inf.*float16 ends at 65504"):
        for _ in range(20):
            training_step(fine, optimizer, batch, objective=objective)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_failed_step_leaves_no_gradient(precision: str) -> None:
    classifier = ready("bert", precision)
    with torch.no_grad():
        trainable_parameters(classifier)["layers.0.o.B"].fill_(torch.nan)
    batch, optimizer = batch_and_optimizer(classifier)
    with pytest.raises(FedcoreError):
        training_step(classifier, optimizer, batch)
    assert all(parameter.grad is None for parameter in classifier.model.parameters())


def test_weights_beyond_float16_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_classifier("bert")
    real = torch.nn.Linear.half

    def huge(layer: torch.nn.Linear) -> torch.nn.Linear:
        with torch.no_grad():
            layer.weight[0, 0] = 1e5
        return real(layer)

    monkeypatch.setattr(torch.nn.Linear, "half", huge)
    with pytest.raises(ModelError, match=r"layer 0, q, exceeds float16's range"):
        load_classifier(base.folder, labels=base.labels, precision="float16")
