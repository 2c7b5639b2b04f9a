from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, load_adapter, read_adapter, trainable_parameters
from fedcore.nn.training.batches import EncodedRows, collate
from fedcore.nn.training.evaluate import predict
from fedcore.nn.training.memory import MIB
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.train import Pace, TrainingAids, TrainResult, scaled_step, train
from tests.tiny_classifiers import FAMILIES, learnable_rows, tiny_classifier


def make_spec(learning_rate: float = 1e-2, batch_size: int = 8) -> TrainingSpec:
    return TrainingSpec(
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=0.0,
        lora_scale=2.0,
        importance="taylor",
        keep_optimizer=True,
        codec="identity",
    )


def ready(family: str = "bert", rank: int = 2) -> Classifier:
    classifier = tiny_classifier(family)
    attach(classifier, rank=rank, scale=2.0, targets=classifier.geometry.modules)
    return classifier


def run(classifier: Classifier, rows: EncodedRows, steps: int, **aids: Any) -> TrainResult:
    return train(classifier, rows, spec=make_spec(), steps=steps, seed=1, aids=TrainingAids(**aids))


@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns_and_leaves_the_base_alone(family: str) -> None:
    classifier = ready(family)
    trainable = {id(parameter) for parameter in trainable_parameters(classifier).values()}
    base = {
        name: parameter.clone()
        for name, parameter in classifier.model.named_parameters()
        if id(parameter) not in trainable
    }
    result = run(classifier, learnable_rows(40), 30)
    assert result.metrics.loss_after < 0.6 * result.metrics.loss_before
    assert result.metrics.loss_after < result.metrics.train_loss < result.metrics.loss_before * 1.1
    assert result.metrics.adapter_importance > 0
    for name, parameter in classifier.model.named_parameters():
        if name in base:
            torch.testing.assert_close(parameter, base[name], rtol=0, atol=0)
            assert parameter.grad is None
    assert all(np.any(moment.first) for name, moment in result.moments.items() if name.endswith(".B"))


def test_training_repeats_for_a_seed() -> None:
    adapters = []
    for _ in range(2):
        classifier = ready()
        run(classifier, learnable_rows(20), 5)
        adapters.append(read_adapter(classifier))
    for name, value in adapters[0].items():
        np.testing.assert_array_equal(value, adapters[1][name])


@pytest.mark.parametrize("rows", [learnable_rows(1), learnable_rows(3), learnable_rows(12, classes=1)])
def test_one_row_few_rows_or_one_class_are_enough(rows: EncodedRows) -> None:
    result = run(ready(), rows, 3)
    assert np.isfinite([result.metrics.train_loss, result.metrics.loss_before, result.metrics.loss_after]).all()


def test_no_step_changes_nothing() -> None:
    classifier = ready()
    before = read_adapter(classifier)
    result = run(classifier, learnable_rows(8), 0)
    assert (result.metrics.train_loss, result.metrics.peak_memory_mb, result.moments) == (0.0, 0.0, {})
    assert result.metrics.loss_before == result.metrics.loss_after
    for name, value in read_adapter(classifier).items():
        np.testing.assert_array_equal(value, before[name])


def test_the_pull_of_one_label_fades() -> None:
    """AdamW alone takes its full steps long after the only label is learned."""
    rows = learnable_rows(12, classes=1)
    margins = []
    for one_sided in (0.0, 1.0):
        classifier = ready()
        run(classifier, rows, 60, labels=LabelPlan(one_sided=one_sided))
        logits = predict(classifier, rows, 12)
        margins.append(float((logits[:, 0] - logits[:, 1]).mean()))
    full, faded = margins
    assert 0 < faded < 0.7 * full


def test_a_scaled_step_leaves_the_rate() -> None:
    classifier = ready()
    parameters = trainable_parameters(classifier)
    optimizer = make_optimizer(parameters, learning_rate=0.5, weight_decay=0.0)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    for value in parameters.values():
        value.grad = torch.ones_like(value)
    scaled_step(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    for name, value in parameters.items():
        torch.testing.assert_close(before[name] - value.detach(), torch.full_like(value, 0.125))


def test_moments_carry_over() -> None:
    classifier = ready()
    first = run(classifier, learnable_rows(20), 3)
    second = run(classifier, learnable_rows(20), 2, moments=first.moments)
    fresh = run(classifier, learnable_rows(20), 2)
    assert {moment.step for moment in first.moments.values()} == {3}
    assert {moment.step for moment in second.moments.values()} == {5}
    assert {moment.step for moment in fresh.moments.values()} == {2}


def test_every_step_is_told_with_its_loss() -> None:
    told: list[tuple[int, float]] = []
    result = run(ready(), learnable_rows(20), 4, on_step=lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [1, 2, 3, 4]
    assert np.mean([loss for _, loss in told]) == pytest.approx(result.metrics.train_loss)


def test_a_slow_device_pauses_after_every_piece_of_work() -> None:
    ticks = iter(range(100))
    pauses: list[float] = []
    run(ready(), learnable_rows(20), 3, pace=Pace(clock=lambda: float(next(ticks)), pause=pauses.append))
    assert pauses == [1.0] * 5  # probe, three steps, probe


def test_scores_come_only_when_asked_for() -> None:
    classifier = ready()
    asked = run(classifier, learnable_rows(20), 1, scorer=TaylorScorer(), score=True).scores
    assert asked is not None and len(asked.channels[0]) == classifier.geometry.ffn
    assert run(classifier, learnable_rows(20), 1, scorer=TaylorScorer()).scores is None


def test_the_lora_scorer_sees_every_step() -> None:
    classifier = ready()
    scorer = LoraTaylorScorer(GroupState.full(classifier.geometry))
    result = run(classifier, learnable_rows(20), 2, scorer=scorer, score=True)
    assert scorer.state.heads.all()
    assert result.scores is not None and np.linalg.norm(result.scores.heads[0]) == pytest.approx(1.0, rel=1e-5)


def test_peak_memory_holds_parameters_gradients_and_moments() -> None:
    classifier = ready()
    result = run(classifier, learnable_rows(20), 1)
    parameters = sum(parameter.nbytes for parameter in classifier.model.parameters())
    trainable = sum(parameter.nbytes for parameter in trainable_parameters(classifier).values())
    floor = (parameters + 3 * trainable) / MIB
    assert floor < result.metrics.peak_memory_mb < floor + 5


def test_memory_grows_with_the_batch() -> None:
    small, large = (
        train(ready(), learnable_rows(32), spec=make_spec(batch_size=size), steps=1, seed=0).metrics.peak_memory_mb
        for size in (2, 32)
    )
    assert large > small


def test_a_loss_that_is_not_finite_names_the_step_and_the_remedy() -> None:
    classifier = ready()
    broken = read_adapter(classifier)
    broken["layers.0.v.B"] = np.full_like(broken["layers.0.v.B"], np.nan)
    load_adapter(classifier, broken)
    with pytest.raises(FedcoreError, match=r"step 1: the loss is nan.*lower training\.learning_rate"):
        run(classifier, learnable_rows(8), 2)


def test_a_gradient_that_is_not_finite_changes_no_parameter() -> None:
    classifier = ready()
    for parameter in classifier.head_parameters().values():
        parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = read_adapter(classifier)
    with pytest.raises(FedcoreError, match="step 1: the gradient norm is"):
        run(classifier, learnable_rows(8), 1)
    for name, value in read_adapter(classifier).items():
        np.testing.assert_array_equal(value, before[name])


def test_padding_does_not_change_what_is_learned() -> None:
    rows = learnable_rows(4)
    classifier = ready()
    classifier.model.eval()
    with torch.no_grad():
        together = classifier.model(**{k: v for k, v in collate(rows, range(4)).items() if k != "labels"}).logits
        alone = [
            classifier.model(**{k: v for k, v in collate(rows, [i]).items() if k != "labels"}).logits for i in range(4)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def taught(how: Distillation, rows: EncodedRows, steps: int, **aids: Any) -> tuple[Classifier, TrainResult]:
    classifier = ready()
    spec = replace(make_spec(), distillation=how)
    return classifier, train(classifier, rows, spec=spec, steps=steps, seed=1, aids=TrainingAids(**aids))


def test_a_teacher_is_asked_once_about_the_rows_that_train() -> None:
    asked: list[list[int]] = []

    def teacher(rows: EncodedRows, wanted: Any) -> Any:
        asked.append(wanted.tolist())
        table = np.full((len(rows), 2), np.nan, dtype=np.float32)
        table[wanted] = 0.0
        return table

    how = Distillation(weight=0.5, temperature=1.0, mix=0.5)
    _, result = taught(how, learnable_rows(40), 2, teacher=teacher)
    (wanted,) = asked
    assert len(wanted) == 16 and wanted == sorted(set(wanted))
    assert np.isfinite(result.metrics.train_loss)
    with pytest.raises(ValueError, match="give the teacher"):
        taught(how, learnable_rows(40), 2)


def test_a_student_becomes_its_teacher_and_is_told_its_cross_entropy() -> None:
    rows = learnable_rows(32)
    wrong = np.where(np.eye(2)[1 - rows.labels] > 0, 2.0, -2.0).astype(np.float32)  # a teacher that errs everywhere
    how = Distillation(weight=1.0, temperature=1.0, mix=1.0)
    classifier, result = taught(how, rows, 40, teacher=lambda rows, wanted: wrong)
    assert (predict(classifier, rows).argmax(1) == 1 - rows.labels).mean() > 0.9
    assert result.metrics.loss_after > result.metrics.loss_before, "losses told are of the labels"


def test_a_teacher_without_a_say_changes_no_step() -> None:
    """At t = 0 the divergence has no gradient: half the weight is half the gradient, which Adam does not feel."""
    rows = learnable_rows(32)
    nobody = np.zeros((32, 2), dtype=np.float32)
    how = Distillation(weight=0.5, temperature=1.0, mix=0.0)
    student, _ = taught(how, rows, 1, teacher=lambda rows, wanted: nobody)
    alone = ready()
    run(alone, rows, 1)
    for name, value in read_adapter(student).items():
        np.testing.assert_allclose(value, read_adapter(alone)[name], atol=2e-5)
