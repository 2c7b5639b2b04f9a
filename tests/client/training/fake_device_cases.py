"""A device's rounds and its evaluator on the make-believe accelerator, against the CPU.

`tests/nn/test_fake_device.py` runs this file in a process of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.trainer import ModelSource, Trainer
from fedcore.client.training.training_state import TrainingState
from fedcore.core.contract.distillation import Distillation
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, read_adapter
from fedcore.nn.training.batches import collate
from fedcore.nn.training.latency import interleaved_latency
from fedcore.nn.training.self_measurement import training_gflops
from fedcore.protos.values import BaseShift, BlobRef, GlobalAdapter, ReferenceTask
from fedcore.transport.download import Received
from tests.client.training.test_trainer import LABELS, ROWS, Ticking, assignment
from tests.fake_accelerator import NAME, install
from tests.nn.fake_device_cases import close
from tests.tiny_models import random_keep_set, tiny_model
from tests.tiny_run import spec_of

MODULE = install()
DEVICES = ("cpu", NAME)


@pytest.fixture(scope="module", params=["bert", "llama-gqa"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tiny_model(tmp_path_factory.mktemp("model") / request.param, request.param)
    targets = load_classifier(folder, labels=LABELS).geometry.modules
    return ModelSource(folder=folder, labels=LABELS, head="auto", dtype="float32", max_length=16, targets=targets)


@pytest.fixture
def adapter(source: ModelSource) -> Tensors:
    classifier = load_classifier(source.folder, labels=LABELS)
    attach(classifier, rank=3, scale=2.0, targets=source.targets)
    rng = np.random.default_rng(0)
    return {
        name: value + rng.normal(scale=0.05, size=value.shape).astype(np.float32)
        for name, value in read_adapter(classifier).items()
    }


@pytest.fixture
def cuts(source: ModelSource) -> Iterator[KeepSet]:
    full = KeepSet.full(load_classifier(source.folder, labels=LABELS).geometry)
    yield random_keep_set(full, heads=1, channels=24)


def trainer_on(source: ModelSource, device: str) -> Trainer:
    return Trainer(replace(source, device=device), ROWS, SlowCpu(1.0))


def test_rounds_of_a_device_are_those_of_the_cpu(source: ModelSource, adapter: Tensors, cuts: KeepSet) -> None:
    full = KeepSet.full(load_classifier(source.folder, labels=LABELS).geometry)
    outcomes = []
    for device in DEVICES:
        trainer, state, left = trainer_on(source, device), TrainingState(), []
        for keep_set in (full, cuts, full):  # uncut, cut, and loaded anew, with kept moments
            received = Received(keep_set=keep_set, tensors=adapter)
            outcome = trainer.run(assignment(score=True), received, state, lambda _: None)
            state, scores = outcome.state, outcome.result.scores
            assert trainer._classifier is not None and trainer._classifier.device.type == device
            assert scores is not None
            left += [*outcome.increment.values(), *scores.heads, *scores.channels, outcome.result.metrics.loss_after]
        outcomes.append(left)
    close(*outcomes)


def test_a_base_shift_and_a_teacher_are_those_of_the_cpu(source: ModelSource, adapter: Tensors, cuts: KeepSet) -> None:
    spec = replace(spec_of(load_classifier(source.folder, labels=LABELS).geometry, 3), targets=source.targets)
    rng = np.random.default_rng(0)
    shift = {name: rng.normal(size=s, scale=0.1).astype(np.float32) for name, s in shift_shapes(spec).items()}
    asked = assignment()
    asked = replace(
        asked,
        base_shift=BaseShift(whole=BlobRef(id="sha256:" + "1" * 64, size=1)),
        training=replace(asked.training, distillation=Distillation(weight=0.5, temperature=1.5, mix=0.7)),
    )
    outcomes = []
    for device in DEVICES:
        received = Received(keep_set=cuts, tensors={**adapter, **shift})
        outcome = trainer_on(source, device).run(asked, received, TrainingState(), lambda _: None)
        outcomes.append(list(outcome.increment.values()))
    close(*outcomes)


def test_a_slow_device_sleeps_by_the_time_of_its_work(source: ModelSource, adapter: Tensors, cuts: KeepSet) -> None:
    slept: list[float] = []
    slow = SlowCpu(3.0, sleep=slept.append)
    trainer = Trainer(replace(source, device=NAME), ROWS, slow, clock=Ticking(1.0), cpu_clock=Ticking(0.25))
    waited = MODULE.synchronised
    trainer.run(assignment(), Received(keep_set=cuts, tensors=adapter), TrainingState(), lambda _: None)
    assert set(slept) == {2.0} and len(slept) >= 4, "twice the seconds of the clock, not of the processor"
    assert MODULE.synchronised >= waited + 2 * len(slept)


def test_an_evaluator_measures_as_on_the_cpu(
    source: ModelSource, adapter: Tensors, cuts: KeepSet, tmp_path: Path
) -> None:
    test = Rows(texts=ROWS.texts[:5], labels=ROWS.labels[:5])
    task = ReferenceTask(
        start=GlobalAdapter(round=0, rank_blocks=(), head=BlobRef(id="", size=0)),
        steps=10,
        rank=2,
        batch_size=2,
        learning_rate=1e-3,
        weight_decay=0.0,
        lora_scale=2.0,
        seed=1,
    )
    outcomes = []
    for device in DEVICES:
        evaluator = ModelEvaluator(source=replace(source, device=device), test=test, train=ROWS)
        exported = evaluator.export(adapter, cuts, 2.0, tmp_path / device)
        outcomes.append(
            [
                evaluator.evaluate(adapter, 0, 2.0, cuts).figures["loss"],
                evaluator.predict(adapter, cuts, 0, 2.0).logits,
                exported.metrics.figures["loss"],
                exported.parameters,
                evaluator.reference(adapter, task).figures["loss"],
            ]
        )
        assert exported.latency_s > 0
    close(*outcomes)


def test_measurements_of_speed_wait_for_the_device(source: ModelSource) -> None:
    waited = MODULE.synchronised
    assert training_gflops(source.folder, dtype="float32", max_length=16, device=NAME, clock=Ticking(1.0)) > 0
    assert MODULE.synchronised == waited + 2, "one pass: it takes longer than all may"
    classifier = replace(source, device=NAME).load()
    trainer = trainer_on(source, NAME)
    trainer.prepare()
    assert trainer._encoded is not None
    batch = collate(trainer._encoded, range(2))
    assert interleaved_latency({"one": classifier}, batch, 3, clock=Ticking(1.0)) == {"one": 1.0}
    assert MODULE.synchronised == waited + 2 + 2 + 2 * 3
