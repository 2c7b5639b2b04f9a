"""Training, scoring, cutting, measuring, exporting and batches of devices on the make-believe accelerator.

Each case runs on the CPU and on the device and compares. `test_fake_device.py` runs this file in a process of its own.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan
from fedcore.nn.batched.train import VirtualTask, train_batched
from fedcore.nn.criteria.compensation import compensate, input_means
from fedcore.nn.criteria.table import SCORERS, Beginning, make_scorer
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.lora import attach, load_adapter, merge, read_adapter
from fedcore.nn.model.shift import add_shift
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import collate
from fedcore.nn.training.evaluate import evaluate, predict
from fedcore.nn.training.moments import Moments
from fedcore.nn.training.step_memory import StepMemory
from fedcore.nn.training.teacher import answers
from fedcore.nn.training.train import TrainingAids, TrainResult, train
from tests.fake_accelerator import NAME, install
from tests.tiny_classifiers import SPEC, learnable_rows, tiny_classifier
from tests.tiny_models import random_keep_set

MODULE = install()

DEVICES = ("cpu", NAME)
KINDS = ("bert", "llama-gqa")
EVERY_KIND = ("bert", "roberta", "llama-gqa", "mistral")
ROWS = learnable_rows(10)
SHIFT = np.array([0.3, -0.2], dtype=np.float32)


def make_classifier(kind: str, device: str) -> tuple[Classifier, dict[str, Any]]:
    """Return a cut classifier on `device` with an adapter that does something, and that adapter."""
    classifier = tiny_classifier(kind)
    classifier.model.to(device)
    geometry = classifier.geometry
    shrink(classifier, random_keep_set(classifier.keep_set, heads=geometry.head_units - 1, channels=geometry.ffn - 7))
    attach(classifier, rank=3, scale=2.0, targets=geometry.modules)
    rng = np.random.default_rng(0)
    before = {
        name: value + rng.normal(size=value.shape).astype(np.float32) * 0.05
        for name, value in read_adapter(classifier).items()
    }
    load_adapter(classifier, before)
    return classifier, before


def close(on_cpu: Sequence[Any], on_device: Sequence[Any]) -> None:
    assert len(on_cpu) == len(on_device) > 0
    for expected, got in zip(on_cpu, on_device, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)  # PyTorch composes some kernels otherwise


def figures(classifier: Classifier, result: TrainResult) -> list[Any]:
    """Return the values, moments, losses and scores that training left."""
    assert all(parameter.device == classifier.device for parameter in classifier.model.parameters())
    left = [result.metrics.loss_before, result.metrics.loss_after, result.metrics.adapter_importance]
    moments = [part for moment in result.moments.values() for part in (moment.first, moment.second, moment.step)]
    scores = [] if result.scores is None else [*result.scores.heads, *result.scores.channels]
    return [*read_adapter(classifier).values(), *moments, *left, *scores]


@pytest.mark.parametrize("one_sided", [0.0, 0.5])
def test_a_step_reads_its_figures_at_once(one_sided: float) -> None:
    """There are dozens of factors; transformers reads the padding mask once or twice a forward pass."""
    classifier, _ = make_classifier("llama-gqa", NAME)
    waits = []
    for steps in (1, 5):
        begin = MODULE.waits
        aids = TrainingAids(labels=LabelPlan(one_sided=one_sided), on_step=lambda step, loss: None)
        train(classifier, ROWS, spec=SPEC, steps=steps, seed=0, aids=aids)
        waits.append(MODULE.waits - begin)
    assert 4 <= waits[1] - waits[0] <= 4 * 3


@pytest.mark.parametrize("criterion", sorted(SCORERS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_trains_and_scores_as_on_the_cpu(kind: str, criterion: str) -> None:
    outcomes = []
    for device in DEVICES:
        classifier, _ = make_classifier(kind, device)
        scorer = make_scorer(criterion, Beginning(geometry=classifier.geometry, seed=1))
        aids = TrainingAids(scorer=scorer, score=True, labels=LabelPlan(shift=SHIFT, one_sided=0.5))
        result = train(classifier, ROWS, spec=SPEC, steps=3, seed=1, aids=aids)
        assert classifier.device.type == device
        outcomes.append(figures(classifier, result))
    close(*outcomes)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_kept_moments_go_on_as_on_the_cpu(kind: str) -> None:
    outcomes = []
    for device in DEVICES:
        classifier, _ = make_classifier(kind, device)
        moments: Moments = {}
        for seed in (1, 2):
            result = train(classifier, ROWS, spec=SPEC, steps=2, seed=seed, aids=TrainingAids(moments=moments))
            moments = result.moments
        assert {moment.step for moment in moments.values()} == {4}
        outcomes.append(figures(classifier, result))
    close(*outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_cutting_after_training_measures_as_on_the_cpu(kind: str) -> None:
    outcomes = []
    for device in DEVICES:
        classifier, _ = make_classifier(kind, device)
        train(classifier, ROWS, spec=SPEC, steps=1, seed=1)
        shrink(classifier, random_keep_set(classifier.keep_set, heads=1, channels=8))
        shares = [predict(classifier, ROWS), evaluate(classifier, ROWS).figures["loss"]]
        merge(classifier)
        outcomes.append([*shares, predict(classifier, ROWS)])
    close(*outcomes)


def test_a_base_shift_and_a_compensation_are_those_of_the_cpu() -> None:
    outcomes = []
    for device in DEVICES:
        classifier = tiny_classifier("bert")
        classifier.model.to(device)
        weight = classifier.base_linear(0, "q").weight
        add_shift(classifier, {"layers.0.q.W": np.full(tuple(weight.shape), 0.01, dtype=np.float32)})
        keep_set = random_keep_set(classifier.keep_set, heads=1, channels=9)
        compensate(classifier, keep_set, input_means(classifier, [collate(ROWS, range(8))]))
        shrink(classifier, keep_set)
        outcomes.append([predict(classifier, ROWS)])
    close(*outcomes)


def test_a_distilled_device_learns_as_on_the_cpu() -> None:
    spec = replace(SPEC, distillation=Distillation(weight=0.5, mix=0.7, temperature=2.0))
    outcomes = []
    for device in DEVICES:
        teacher, _ = make_classifier("bert", device)
        classifier, _ = make_classifier("bert", device)
        aids = TrainingAids(teacher=lambda rows, wanted, teacher=teacher: answers(teacher, rows, wanted, 4))
        outcomes.append(figures(classifier, train(classifier, ROWS, spec=spec, steps=2, seed=1, aids=aids)))
    close(*outcomes)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_holds_the_values_of_the_cpu(kind: str, tmp_path: Path) -> None:
    outcomes = []
    for device in DEVICES:
        classifier, _ = make_classifier(kind, device)
        probe = collate(ROWS, range(4))
        del probe["labels"]
        export_classifier(classifier, tmp_path / device, classifier.folder, probe)
        weights, probes = (load_file(tmp_path / device / f"{name}.safetensors") for name in ("model", "probe"))
        outcomes.append([tensor.numpy() for _, tensor in sorted({**weights, **probes}.items())])
    close(*outcomes)


@pytest.mark.parametrize(
    ("kind", "criterion"),
    [*((kind, "taylor") for kind in EVERY_KIND), ("llama-gqa", "lora-taylor"), ("bert", "magnitude"), ("bert", "flap")],
)
def test_a_batch_of_devices_trains_and_scores_as_on_the_cpu(kind: str, criterion: str) -> None:
    outcomes = []
    for device in DEVICES:
        classifier, before = make_classifier(kind, device)
        plans = (LabelPlan(shift=SHIFT, one_sided=0.5), LabelPlan())
        tasks = [VirtualTask(rows=learnable_rows(5 + 4 * i), seed=i, labels=plan) for i, plan in enumerate(plans)]
        spec = replace(SPEC, importance=criterion)
        trained = train_batched(
            classifier, before, tasks, spec=spec, steps=2, score=True, keep_moments=True, memory=StepMemory()
        )
        again = [replace(task, moments=result.moments) for task, result in zip(tasks, trained.results, strict=True)]
        later = train_batched(classifier, before, again, spec=spec, steps=1, score=False, keep_moments=True)
        left = [*trained.increments.values(), *later.increments.values()]
        for result in (*trained.results, *later.results):
            left += figures(classifier, result)
        outcomes.append(left)
    close(*outcomes)


def test_a_distilled_batch_learns_as_on_the_cpu() -> None:
    spec = replace(SPEC, distillation=Distillation(weight=0.5, mix=0.7, temperature=2.0))
    outcomes = []
    for device in DEVICES:
        classifier, before = make_classifier("llama-gqa", device)
        own = [answers(classifier, ROWS, np.arange(len(ROWS)), 4) + 0.5 * i for i in range(2)]
        tasks = [VirtualTask(rows=ROWS, seed=i, teacher=logits) for i, logits in enumerate(own)]
        trained = train_batched(classifier, before, tasks, spec=spec, steps=2, score=False, memory=StepMemory())
        outcomes.append(list(trained.increments.values()))
    close(*outcomes)


def test_a_batch_that_was_not_moved_fails() -> None:
    classifier, _ = make_classifier("bert", NAME)
    batch = collate(ROWS, range(4))
    del batch["labels"]
    with torch.no_grad(), pytest.raises(RuntimeError, match="same device"):
        classifier.model(**batch)
