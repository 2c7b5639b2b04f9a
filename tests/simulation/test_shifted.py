"""A real and a virtual device train to the same bits on shifted base weights, and on plain ones again afterwards."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fedcore.client.data.rows import Rows
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.trainer import ModelSource, Trainer
from fedcore.client.training.training_state import TrainingState
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.base_shift import Arrays, shift_shapes
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.model_folder import load_tokenizer
from fedcore.nn.training.batches import encode_rows
from fedcore.protos.values import BaseShift, BlobRef
from fedcore.simulation.workload.trainer import Order, Task, VirtualTrainer
from fedcore.transport.download import Received
from tests.simulation.workload.test_trainer import LABELS, TEXTS, assignment_with
from tests.tiny_models import random_keep_set, tiny_model

PLAIN = assignment_with(None)
SHIFTED = replace(PLAIN, base_shift=BaseShift(whole=BlobRef(id="sha256:" + "1" * 64, size=1, name="1")))


def test_weights_are_shifted_before_they_are_cut(tmp_path: Path) -> None:
    folder, rng = tiny_model(tmp_path / "bert", "bert"), np.random.default_rng(1)
    dense = load_classifier(folder, labels=("neg", "pos"))
    geometry = dense.geometry
    source = ModelSource(
        folder=folder, labels=("neg", "pos"), head="auto", dtype="float32", max_length=16, targets=geometry.modules
    )
    keep_set = random_keep_set(dense.keep_set, heads=geometry.head_units - 1, channels=geometry.ffn - 5)
    head = tuple(
        sorted((f"head.{name}", tuple(parameter.shape)) for name, parameter in dense.head_module.named_parameters())
    )
    spec = AdapterSpec(geometry=geometry, rank=4, targets=geometry.modules, head=head)
    handout = initial_adapter(spec, rng)
    shift = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shift_shapes(spec).items()}
    rows = Rows(texts=tuple((text,) for text in TEXTS), labels=LABELS)
    device = Trainer(source, rows, SlowCpu(1.0))

    def real(*, shifted: bool) -> Arrays:
        assignment, tensors = (SHIFTED, handout | shift) if shifted else (PLAIN, handout)
        received = Received(keep_set=keep_set, tensors=tensors)
        return device.run(assignment, received, TrainingState(), on_step=lambda _: None).increment

    ids = [source.labels.index(label) for label in LABELS]
    encoded = encode_rows(load_tokenizer(folder), rows.texts, ids, source.max_length)
    virtual = VirtualTrainer(source=source, rows=encoded, threads=None)

    def simulated(*, shifted: bool) -> Arrays:
        task = Task(assignment=SHIFTED if shifted else PLAIN, rows=np.arange(len(TEXTS)), state=TrainingState())
        before, base_shift = restrict(spec, handout, rank=2, keep_set=keep_set), shift if shifted else {}
        order = Order(keep_set=keep_set, before=before, shift=base_shift, tasks=(task,), batched=False)
        return {name: value[0] for name, value in virtual.run(order).increments.items()}

    runs = {}
    for moment, shifted in enumerate((False, True, True, False)):
        runs[moment] = real(shifted=shifted)
        for name, value in simulated(shifted=shifted).items():
            np.testing.assert_array_equal(value, runs[moment][name])
    for name, plain in runs[0].items():
        np.testing.assert_array_equal(plain, runs[3][name])
        np.testing.assert_array_equal(runs[1][name], runs[2][name])
    assert any(np.abs(value - runs[1][name]).max() > 1e-3 for name, value in runs[0].items())
