"""A real and a virtual device learn from the dense model to the same bits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.client.data.rows import Rows
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.trainer import ModelSource, Trainer
from fedcore.client.training.training_state import TrainingState
from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.model.adapter import AdapterSpec, initial_adapter, restrict
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.model_folder import load_tokenizer
from fedcore.nn.training.batches import encode_rows
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.simulation.workload.trainer import Order, Task, VirtualTrainer
from fedcore.transport.download import Received
from tests.tiny_models import random_keep_set, tiny_model

TEXTS = tuple(f"word {n} of a row that is {'good' if n % 2 else 'bad'}" for n in range(11))
LABELS = tuple("pos" if n % 2 else "neg" for n in range(11))
NOWHERE = BlobRef(id="sha256:" + "0" * 64, size=0)


def assignment_with(how: Distillation | None) -> WireAssignment:
    training = TrainingSpec(
        batch_size=3,
        learning_rate=1e-2,
        weight_decay=0.0,
        lora_scale=2.0,
        importance="taylor",
        keep_optimizer=False,
        codec="identity",
        distillation=how,
    )
    return WireAssignment(
        round=2,
        arm=Arm(sparsity=0.5, rank=2),
        keep_set=NOWHERE,
        rank_blocks=(),
        head=NOWHERE,
        local_steps=3,
        weight=1,
        seed=4,
        deadline_s=10.0,
        score=False,
        training=training,
        max_upload_bytes=0,
        basis="persistent",
    )


@pytest.mark.parametrize("kind", ["bert", "llama-gqa"])
def test_equal_works_give_equal_increments_on_both(kind: str, tmp_path: Path) -> None:
    source = ModelSource(
        folder=tiny_model(tmp_path / kind, kind),
        labels=("neg", "pos"),
        head="auto",
        dtype="float32",
        max_length=16,
        targets=(),
    )
    dense = load_classifier(source.folder, labels=source.labels)
    geometry = dense.geometry
    source = replace(source, targets=geometry.modules)
    keep_set = random_keep_set(dense.keep_set, heads=geometry.head_units - 1, channels=geometry.ffn - 5)
    head = tuple(
        sorted((f"head.{name}", tuple(parameter.shape)) for name, parameter in dense.head_module.named_parameters())
    )
    spec = AdapterSpec(geometry=geometry, rank=4, targets=geometry.modules, head=head)
    rng = np.random.default_rng(1)
    drawn = initial_adapter(spec, rng)
    handout = {
        name: value + rng.normal(size=value.shape, scale=0.1).astype(np.float32) for name, value in drawn.items()
    }
    assignment = assignment_with(Distillation(weight=0.5, temperature=1.5, mix=0.7))
    rows = Rows(texts=tuple((text,) for text in TEXTS), labels=LABELS)

    def real(assignment: WireAssignment) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        device, received = Trainer(source, rows, SlowCpu(1.0)), Received(keep_set=keep_set, tensors=handout)
        return device.run(assignment, received, TrainingState(), on_step=lambda _: None).increment

    ids = [source.labels.index(label) for label in LABELS]
    encoded = encode_rows(load_tokenizer(source.folder), rows.texts, ids, source.max_length)
    virtual = VirtualTrainer(source=source, rows=encoded, threads=None)
    order = Order(
        keep_set=keep_set,
        before=restrict(spec, handout, rank=2, keep_set=keep_set),
        shift={},
        tasks=(Task(assignment=assignment, rows=np.arange(len(TEXTS)), state=TrainingState()),),
        batched=False,
        dense=restrict(spec, handout, rank=2, keep_set=KeepSet.full(geometry)),
    )
    taught, untaught = real(assignment), real(assignment_with(None))
    for name, value in virtual.run(order).increments.items():
        np.testing.assert_array_equal(value[0], taught[name])
    assert any(np.abs(value - untaught[name]).max() > 1e-4 for name, value in taught.items())
