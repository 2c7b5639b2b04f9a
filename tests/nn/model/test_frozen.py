"""Training a part of the adapter: what is frozen keeps its bits and takes no gradient, alone and many at once."""

import dataclasses

import numpy as np
import pytest
import torch

from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.nn.batched.train import train_batched
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.model.frozen import first_trained_layer, training_only
from fedcore.nn.model.lora import load_adapter, read_adapter, trainable_parameters
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.step_memory import measure_step_memory
from fedcore.nn.training.train import TrainingAids, train
from tests.nn.batched.test_train import SPEC, compare, make_classifier, make_rows, make_tasks

PARTS = (
    TrainedPart(factors=Factors.A),
    TrainedPart(factors=Factors.B),
    TrainedPart(first_layer=1),
    TrainedPart(factors=Factors.B, first_layer=1),
    TrainedPart(first_layer=9),  # the head alone
)


@pytest.mark.parametrize("trains", PARTS)
def test_only_what_trains_changes(trains: TrainedPart) -> None:
    classifier, _ = make_classifier("bert")
    before = read_adapter(classifier)
    spec = dataclasses.replace(SPEC, trains=trains)
    result = train(classifier, make_rows([5, 7, 3, 4, 9]), spec=spec, steps=2, seed=1)
    after = read_adapter(classifier)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == set(trains.of(before)) == set(result.moments)
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in trainable_parameters(classifier).values()
    )


def test_a_failed_step_leaves_nothing_frozen() -> None:
    classifier, _ = make_classifier("bert")
    with (
        pytest.raises(RuntimeError),
        training_only(classifier, TrainedPart(factors=Factors.B, first_layer=1)) as trained,
    ):
        assert first_trained_layer(classifier) == 1
        assert all(name.startswith("head.") or name.endswith(".B") for name in trained)
        raise RuntimeError
    assert all(parameter.requires_grad for parameter in trainable_parameters(classifier).values())
    assert first_trained_layer(classifier) == 0


def test_gradients_are_clipped_by_what_trains_alone() -> None:
    """A gradient above norm 1 is clipped to it: the first moment, a tenth of the gradient, then has norm 0.1."""
    classifier, before = make_classifier("bert")
    shift = np.array([30.0, -30.0], dtype=np.float32)  # a loss so large that the gradient is
    norms = {}
    for trains in (TrainedPart(factors=Factors.B), EVERYTHING):
        load_adapter(classifier, before)
        spec = dataclasses.replace(SPEC, trains=trains)
        aids = TrainingAids(labels=LabelPlan(shift=shift))
        moments = train(classifier, make_rows([5, 7, 3, 4]), spec=spec, steps=1, seed=1, aids=aids).moments
        held = {name: moment for name, moment in moments.items() if not name.endswith(".A")}
        norms[trains] = np.sqrt(sum(float(np.square(value.first).sum()) for value in held.values()))
    assert norms[TrainedPart(factors=Factors.B)] == pytest.approx(0.1, rel=1e-4)
    assert norms[EVERYTHING] < 0.0999


@pytest.mark.parametrize("trains", PARTS)
def test_many_at_once_get_what_each_gets_alone(trains: TrainedPart) -> None:
    kind, importance = ("mistral", "taylor") if trains.factors is Factors.B else ("bert", "lora-taylor")
    classifier, before = make_classifier(kind)
    spec = dataclasses.replace(SPEC, importance=importance, trains=trains)
    got = compare(classifier, before, make_tasks(classifier)[1:4], spec=spec, steps=2, score=True, max_tokens=60)
    assert set(got.increments) == set(trains.of(before))


def test_scores_use_the_gradient_there_is() -> None:
    """A frozen: |dB A (W + s B A)|, B frozen: |B dA (W + s B A)|; layers that do not train keep their averages."""
    classifier, before = make_classifier("bert")
    rows = make_rows([5, 7, 3, 4])
    start = GroupState.full(classifier.geometry)
    found = {}
    for trains in (
        TrainedPart(factors=Factors.A),
        TrainedPart(factors=Factors.B),
        TrainedPart(first_layer=1),
        EVERYTHING,
    ):
        load_adapter(classifier, before)
        scorer = LoraTaylorScorer(start)
        spec = dataclasses.replace(SPEC, importance="lora-taylor", trains=trains)
        train(classifier, rows, spec=spec, steps=1, seed=1, aids=TrainingAids(scorer=scorer))
        found[trains] = scorer.state.heads
    assert not found[TrainedPart(first_layer=1)][0].any()
    np.testing.assert_allclose(found[TrainedPart(first_layer=1)][1], found[EVERYTHING][1], rtol=1e-4)
    assert found[TrainedPart(factors=Factors.A)].any() and found[TrainedPart(factors=Factors.B)].any()
    assert not np.allclose(found[TrainedPart(factors=Factors.A)], found[TrainedPart(factors=Factors.B)])


def test_freezing_takes_less_memory() -> None:
    classifier, _ = make_classifier("bert")
    sizes = {}
    for trains in (EVERYTHING, TrainedPart(factors=Factors.B), TrainedPart(first_layer=1)):
        spec = dataclasses.replace(SPEC, trains=trains)
        sizes[trains] = measure_step_memory(classifier, spec, rows=8, width=16)
    for part in (TrainedPart(factors=Factors.B), TrainedPart(first_layer=1)):
        assert sizes[part].standing_mb < sizes[EVERYTHING].standing_mb
        assert sizes[part].token_mb < sizes[EVERYTHING].token_mb


def test_a_batch_freezes_what_it_is_told_and_not_what_the_model_holds() -> None:
    classifier, before = make_classifier("bert")
    spec = dataclasses.replace(SPEC, trains=TrainedPart(factors=Factors.B))
    one = train_batched(classifier, before, make_tasks(classifier), spec=spec, steps=1, score=False)
    with torch.no_grad():
        for parameter in trainable_parameters(classifier).values():
            parameter.zero_()
    other = train_batched(classifier, before, make_tasks(classifier), spec=spec, steps=1, score=False)
    for name, value in one.increments.items():
        np.testing.assert_array_equal(value, other.increments[name])
