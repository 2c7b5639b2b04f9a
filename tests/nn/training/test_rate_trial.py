from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.rate_trial import DIVERGED, RateTrial
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.nn.accelerator.pace import Pace
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, read_adapter
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.rate_trial import trial_losses
from tests.tiny_classifiers import learnable_rows, tiny_classifier

SPEC = TrainingSpec(
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=False,
    codec="identity",
)
TRIAL = RateTrial(rates=(1e-4, 1e-2), steps=4)


@pytest.fixture(params=["bert", "llama"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    made = tiny_classifier(request.param)
    attach(made, rank=2, scale=2.0, targets=made.geometry.modules)
    return made


def tried(classifier: Classifier, trial: RateTrial = TRIAL, *, rows: EncodedRows | None = None, **options):
    settings = {"spec": SPEC, "seed": 3, "labels": LabelPlan()} | options
    chosen = learnable_rows(64) if rows is None else rows
    return trial_losses(classifier, chosen, read_adapter(classifier), trial=trial, **settings)


def test_the_adapter_is_as_before_and_losses_are_of_every_rate(classifier: Classifier) -> None:
    before = read_adapter(classifier)
    losses = tried(classifier)
    after = read_adapter(classifier)
    assert len(losses) == 3
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert losses[2] < losses[1] <= losses[0]  # four steps of 1e-4 hardly move it


def test_a_rate_has_the_same_loss_beside_any_others(classifier: Classifier) -> None:
    together = tried(classifier, RateTrial(rates=(1e-3, 1e-2), steps=4))
    alone = tried(classifier, RateTrial(rates=(1e-2,), steps=4))
    assert together[0] == alone[0] and together[2] == alone[1]


def test_a_rate_that_diverges_says_so(classifier: Classifier) -> None:
    assert tried(classifier, RateTrial(rates=(1e30,), steps=3))[1] == DIVERGED


def test_a_device_of_one_row_can_try(classifier: Classifier) -> None:
    losses = tried(classifier, rows=learnable_rows(1))
    assert len(losses) == 3 and all(np.isfinite(losses))


def test_what_is_frozen_is_not_tried(classifier: Classifier) -> None:
    part = TrainedPart(factors=Factors.B)
    assert tried(classifier, spec=replace(SPEC, trains=part))[2] != tried(classifier)[2]


def test_every_step_is_told_and_every_piece_of_work_slowed(classifier: Classifier) -> None:
    told, pauses = [], []
    tried(classifier, on_step=lambda step, loss: told.append(step), pace=Pace(clock=lambda: 0.0, pause=pauses.append))
    assert told == [0] * TRIAL.taken_steps
    assert len(pauses) == TRIAL.taken_steps + len(TRIAL.rates) + 1
