"""Many devices in one pass against the same devices one by one: batches, losses, values, moments, scores."""

import dataclasses
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError, ModelError
from fedcore.core.model.adapter import Tensors
from fedcore.nn.batched.schedule import schedule
from fedcore.nn.batched.train import BatchTrained, VirtualTask, default_tokens, train_batched
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, load_adapter, read_adapter
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.moments import Moment
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.step_memory import StepMemory
from fedcore.nn.training.train import TrainingAids, TrainResult, train
from tests.tiny_classifiers import PAD, SPEC, tiny_classifier
from tests.tiny_models import random_keep_set

KINDS = ("bert", "roberta", "llama-gqa", "llama-mqa", "mistral", "qwen2")
TOLERANCE = 1e-5
# Adam divides by the gradient: where that is nothing but rounding, the direction of its step is as well
MEANINGFUL = 1e-6
NOISY = 1e-3  # share of values whose gradient may have been rounding in some earlier step


def make_classifier(kind: str, rank: int = 3) -> tuple[Classifier, dict[str, Any]]:
    """Return a cut classifier with an adapter that does something, and that adapter."""
    classifier = tiny_classifier(kind)
    geometry = classifier.geometry
    shrink(classifier, random_keep_set(classifier.keep_set, heads=geometry.head_units - 1, channels=geometry.ffn - 7))
    attach(classifier, rank=rank, scale=2.0, targets=geometry.modules)
    rng = np.random.default_rng(0)
    before = {
        name: value + rng.normal(size=value.shape).astype(np.float32) * 0.05
        for name, value in read_adapter(classifier).items()
    }
    load_adapter(classifier, before)
    return classifier, before


@cache
def ready() -> tuple[Classifier, dict[str, Any]]:
    """Return one classifier for many examples: every comparison leaves it as it was."""
    return make_classifier("bert")


def make_rows(lengths: Sequence[int], *, pad: int = PAD, seed: int = 0) -> EncodedRows:
    """Return learnable rows of these lengths, with segment ids."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, len(lengths))
    ids = tuple(tuple(int(i) for i in rng.integers(20, 40, n) + 20 * y) for n, y in zip(lengths, labels, strict=True))
    segments = tuple(tuple(int(i >= n // 2) for i in range(n)) for n in lengths)
    return EncodedRows(token_ids=ids, segment_ids=segments, labels=labels, pad_id=pad)


def held_of(rows: EncodedRows, draws: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Return `draws` without labels that no row has."""
    return draws and tuple(count * int((rows.labels == label).any()) for label, count in enumerate(draws))


def make_tasks(classifier: Classifier) -> list[VirtualTask]:
    """Return devices with fewer, as many, and more rows than a batch has, short and long ones."""
    pad = classifier.model.config.pad_token_id
    segments = classifier.geometry.token_types > 1
    tasks = []
    for device, lengths in enumerate([(5,), (2, 9, 4), (3, 3, 3, 3), (12, 2, 7, 6, 2, 8, 5), (11, 10)]):
        rows = make_rows(lengths, pad=pad if classifier.geometry.family == "llama" else PAD, seed=device)
        rows = rows if segments else dataclasses.replace(rows, segment_ids=())
        shift = None if device % 2 else np.array([0.3, -0.2], dtype=np.float32)
        draws = None if device % 3 else (1 + device, 3)
        plan = LabelPlan(shift=shift, draws=held_of(rows, draws), one_sided=(0.0, 1.0, 0.3)[device % 3])
        tasks.append(VirtualTask(rows=rows, seed=device, labels=plan))
    return tasks


def one_by_one(
    classifier: Classifier, before: Tensors, task: VirtualTask, spec: TrainingSpec, steps: int, *, score: bool
) -> tuple[dict[str, Any], TrainResult, GroupState | None]:
    load_adapter(classifier, before)
    begin = Beginning(geometry=classifier.geometry, seed=task.seed, state=task.smoothed)
    scorer = make_scorer(spec.importance, begin) if score else None
    aids = TrainingAids(
        moments=task.moments,
        scorer=scorer,
        score=score,
        labels=task.labels,
        teacher=lambda rows, wanted: task.teacher if task.teacher is not None else np.empty((0, 0)),
    )
    result = train(classifier, task.rows, spec=spec, steps=steps, seed=task.seed, aids=aids)
    after = read_adapter(classifier)
    load_adapter(classifier, before)
    increment = {name: after[name] - before[name] for name in before}
    return increment, result, None if scorer is None else scorer.state


def compare(
    classifier: Classifier,
    before: Tensors,
    tasks: Sequence[VirtualTask],
    *,
    spec: TrainingSpec = SPEC,
    steps: int = 3,
    score: bool = False,
    **options: Any,
) -> BatchTrained:
    """Train both ways and demand the same of every device."""
    together = train_batched(
        classifier, before, tasks, spec=spec, steps=steps, score=score, keep_moments=True, **options
    )
    for device, task in enumerate(tasks):
        increment, expected, smoothed = one_by_one(classifier, before, task, spec, steps, score=score)
        got = together.results[device]
        assert isinstance(got, TrainResult)
        shares, apart = [], []
        for name, moment in expected.moments.items():
            loud = np.sqrt(moment.second / (1 - 0.999**moment.step)) > MEANINGFUL
            shares.append(loud.mean())
            difference = np.abs(together.increments[name][device] - increment[name])
            apart.append(difference[loud] > TOLERANCE)
            assert difference.max() <= 2 * 2 * steps * spec.learning_rate
            np.testing.assert_allclose(got.moments[name].first, moment.first, atol=1e-6)
            np.testing.assert_allclose(got.moments[name].second, moment.second, atol=1e-6)
            assert got.moments[name].step == moment.step
        if shares:
            assert np.mean(shares) > 0.8
            assert np.concatenate(apart).mean() <= (NOISY if steps > 1 or task.moments else 0.0)
        for figure in ("train_loss", "loss_before", "loss_after", "adapter_importance"):
            assert getattr(got.metrics, figure) == pytest.approx(
                getattr(expected.metrics, figure), abs=TOLERANCE, rel=1e-4
            ), figure
        assert (got.scores is None) == (expected.scores is None)
        if got.scores is not None and expected.scores is not None:
            for kind in ("heads", "channels"):
                for ours, theirs in zip(getattr(got.scores, kind), getattr(expected.scores, kind), strict=True):
                    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
        ours_smoothed = together.smoothed[device]
        assert (ours_smoothed is None) == (smoothed is None)
        if ours_smoothed is not None and smoothed is not None:
            np.testing.assert_allclose(ours_smoothed.heads, smoothed.heads, atol=TOLERANCE)
            np.testing.assert_allclose(ours_smoothed.channels, smoothed.channels, atol=TOLERANCE)
    return together


@pytest.mark.parametrize(
    ("kind", "importance"),
    [*((kind, "taylor") for kind in KINDS), ("bert", "lora-taylor"), ("mistral", "lora-taylor")]
    + [("bert", name) for name in ("wanda-sp", "flap", "amp", "magnitude", "random")],
)
def test_every_device_gets_what_it_gets_alone(kind: str, importance: str) -> None:
    classifier, before = make_classifier(kind)
    compare(
        classifier,
        before,
        make_tasks(classifier),
        spec=dataclasses.replace(SPEC, importance=importance),
        score=True,
        max_tokens=60,
    )


@pytest.mark.parametrize("mix", [0.3, 1.0])
def test_every_device_learns_from_its_teacher_as_alone(mix: float) -> None:
    classifier, before = make_classifier("bert")
    rng = np.random.default_rng(5)
    spec = dataclasses.replace(SPEC, distillation=Distillation(weight=0.6, temperature=1.5, mix=mix))
    tasks = []
    for task in make_tasks(classifier):
        plan = schedule(task.rows, task.seed, batch_size=spec.batch_size, steps=3)
        table = np.full((len(task.rows), 2), np.nan, dtype=np.float32)
        table[plan.trained_rows] = rng.normal(size=(len(plan.trained_rows), 2), scale=2.0)
        tasks.append(dataclasses.replace(task, teacher=table))
    taught = compare(classifier, before, tasks, spec=spec, score=True, max_tokens=60)
    alone = train_batched(classifier, before, tasks, spec=SPEC, steps=3, score=False)
    assert any(np.abs(value - alone.increments[name]).max() > 1e-4 for name, value in taught.increments.items())


def test_a_task_without_its_teachers_answers_is_refused() -> None:
    classifier, before = ready()
    spec = dataclasses.replace(SPEC, distillation=Distillation(weight=0.6, temperature=1.0, mix=1.0))
    with pytest.raises(ValueError, match="give every task its teacher's answers"):
        train_batched(classifier, before, make_tasks(classifier), spec=spec, steps=1, score=False)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    shards=st.lists(st.lists(st.integers(2, 14), min_size=1, max_size=9), min_size=1, max_size=5),
    max_tokens=st.integers(1, 150),
    steps=st.integers(0, 3),
)
def test_any_rows_in_passes_of_any_size(shards: list[list[int]], max_tokens: int, steps: int) -> None:
    classifier, before = ready()
    tasks = [VirtualTask(rows=make_rows(lengths, seed=seed), seed=seed) for seed, lengths in enumerate(shards)]
    compare(classifier, before, tasks, steps=steps, max_tokens=max_tokens)


def test_moments_go_on_from_counts_of_their_own() -> None:
    classifier, before = make_classifier("bert")
    tasks = make_tasks(classifier)
    first = train_batched(classifier, before, tasks, spec=SPEC, steps=2, score=False, keep_moments=True)
    going_on = []
    for device, task in enumerate(tasks):
        result = first.results[device]
        assert isinstance(result, TrainResult)
        moments = dict(result.moments) if device != 1 else {}
        if device == 2:  # one tensor rewound, as after a change of rank
            old = moments["layers.1.up.A"]
            moments["layers.1.up.A"] = Moment(first=old.first, second=old.second, step=1)
        going_on.append(dataclasses.replace(task, moments=moments))
    compare(classifier, before, going_on)


def test_running_averages_go_on() -> None:
    classifier, before = make_classifier("llama-gqa")
    spec = dataclasses.replace(SPEC, importance="lora-taylor")
    tasks = make_tasks(classifier)
    first = train_batched(classifier, before, tasks, spec=spec, steps=1, score=True)
    going_on = [dataclasses.replace(task, smoothed=state) for task, state in zip(tasks, first.smoothed, strict=True)]
    compare(classifier, before, going_on, spec=spec, steps=1, score=True)


def test_adapters_on_some_modules_only() -> None:
    classifier = tiny_classifier("bert")
    attach(classifier, rank=2, scale=1.0, targets=("q", "up"))
    compare(classifier, read_adapter(classifier), make_tasks(classifier), steps=2, score=True)


def test_a_bfloat16_base_trains() -> None:
    classifier, before = make_classifier("bert")
    for module in range(2):
        for name in classifier.geometry.modules:
            classifier.base_linear(module, name).to(torch.bfloat16)
    classifier.backbone.to(torch.bfloat16)
    for name, parameter in classifier.backbone.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
    load_adapter(classifier, before)
    tasks = make_tasks(classifier)
    together = train_batched(classifier, before, tasks, spec=SPEC, steps=2, score=True)
    for device, task in enumerate(tasks):
        _, expected, _ = one_by_one(classifier, before, task, SPEC, 2, score=False)
        got = together.results[device]
        assert isinstance(got, TrainResult)
        assert got.metrics.loss_before == pytest.approx(expected.metrics.loss_before, abs=0.02)
        assert got.metrics.loss_after == pytest.approx(expected.metrics.loss_after, abs=0.02)


def test_the_classifier_is_left_as_it_was() -> None:
    classifier, before = make_classifier("llama-mqa")
    modules = dict(classifier.model.named_modules())
    attention = classifier.backbone.config._attn_implementation
    values = {name: parameter.detach().clone() for name, parameter in classifier.model.named_parameters()}
    train_batched(classifier, before, make_tasks(classifier), spec=SPEC, steps=2, score=True)
    after = dict(classifier.model.named_modules())
    assert list(after) == list(modules) and all(after[name] is modules[name] for name in modules)
    assert classifier.backbone.config._attn_implementation == attention
    for name, parameter in classifier.model.named_parameters():
        torch.testing.assert_close(parameter, values[name], rtol=0, atol=0)
        assert parameter.grad is None


def test_a_device_that_diverges_fails_alone() -> None:
    classifier, before = make_classifier("bert")
    tasks = make_tasks(classifier)
    sick = 2
    tasks[sick] = dataclasses.replace(tasks[sick], labels=LabelPlan(shift=np.array([np.nan, 0.0], dtype=np.float32)))
    together = train_batched(classifier, before, tasks, spec=SPEC, steps=2, score=True)
    failed = together.results[sick]
    assert isinstance(failed, FedcoreError)
    with pytest.raises(FedcoreError) as alone:
        one_by_one(classifier, before, tasks[sick], SPEC, 2, score=True)
    assert str(failed) == str(alone.value)
    assert all(not value[sick].any() for value in together.increments.values())
    well = [device for device in range(len(tasks)) if device != sick]
    rest = compare(classifier, before, [tasks[device] for device in well], steps=2, score=True)
    for line, device in enumerate(well):
        for name, value in rest.increments.items():
            np.testing.assert_allclose(together.increments[name][device], value[line], atol=TOLERANCE)


def test_values_that_are_not_finite_stay_with_their_device() -> None:
    classifier, before = make_classifier("llama-gqa")
    tasks = make_tasks(classifier)
    broken = {name: Moment(first=v + np.nan, second=v * 0 + 1, step=3) for name, v in before.items()}
    tasks[0] = dataclasses.replace(tasks[0], moments=broken)  # its values are NaN after the first step
    together = train_batched(classifier, before, tasks, spec=SPEC, steps=2, score=False)
    assert "step 2: the loss is nan" in str(together.results[0])
    assert all(
        isinstance(result, TrainResult) and np.isfinite(result.metrics.loss_after) for result in together.results[1:]
    )


def test_an_adapter_of_another_rank_is_refused() -> None:
    classifier, _ = make_classifier("bert", rank=3)
    _, other = make_classifier("bert", rank=2)
    with pytest.raises(ModelError, match="does not fit the model"):
        train_batched(classifier, other, make_tasks(classifier), spec=SPEC, steps=1, score=False)


def test_memory_is_that_of_the_device_alone() -> None:
    classifier, before = make_classifier("bert")
    rows = make_rows((10,) * 40)
    spec = dataclasses.replace(SPEC, batch_size=32)
    tasks = [VirtualTask(rows=rows, seed=0)]
    together = train_batched(classifier, before, tasks, spec=spec, steps=2, score=False)
    _, alone, _ = one_by_one(classifier, before, tasks[0], spec, 2, score=False)
    got = together.results[0]
    assert isinstance(got, TrainResult)
    assert got.metrics.peak_memory_mb == pytest.approx(alone.metrics.peak_memory_mb, rel=0.05)
    known = StepMemory(standing_mb=1.0, token_mb=0.5)
    told = train_batched(classifier, before, tasks, spec=spec, steps=1, score=False, memory=known).results[0]
    assert isinstance(told, TrainResult) and told.metrics.peak_memory_mb == 1.0 + 0.5 * 32 * 10


def test_a_pass_takes_more_tokens_of_a_smaller_model() -> None:
    classifier, _ = make_classifier("bert")
    dense = tiny_classifier("bert")
    assert default_tokens(classifier) > default_tokens(dense)
    assert default_tokens(dense) == (128 << 20) // (4 * 2 * (14 * 32 + 2 * 48))


def test_no_task_is_no_work() -> None:
    classifier, before = make_classifier("bert")
    with pytest.raises(ValueError, match="no task"):
        train_batched(classifier, before, [], spec=SPEC, steps=1, score=False)
