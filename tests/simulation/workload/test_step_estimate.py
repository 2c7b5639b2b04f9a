from pathlib import Path

import pytest

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.model.geometry import Counts
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.step_memory import StepMemory, measure_step_memory
from fedcore.simulation.workload.step_estimate import Cut, ModelKind, estimated
from tests.tiny_models import tiny_model

SPEC = TrainingSpec(
    batch_size=8,
    learning_rate=1e-3,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=False,
    codec="identity",
)


def measured(folder: Path, heads: int, channels: int) -> tuple[StepMemory, ModelKind]:
    classifier = load_classifier(folder, labels=("a", "b"))
    geometry = classifier.geometry
    keep_set = KeepSet(
        heads=(tuple(range(heads)),) * geometry.layers, channels=(tuple(range(channels)),) * geometry.layers
    )
    if keep_set != classifier.keep_set:
        shrink(classifier, keep_set)
    attach(classifier, rank=4, scale=2.0, targets=geometry.modules)
    kind = ModelKind(geometry=geometry, targets=geometry.modules, dtype_bytes=4, num_labels=2)
    return measure_step_memory(classifier, SPEC, rows=8, width=16), kind


@pytest.mark.parametrize("family", ["bert", "llama-gqa"])
def test_a_cut_model_is_estimated_from_the_dense_one(family: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / family, family)
    geometry = load_classifier(folder, labels=("a", "b")).geometry
    dense, kind = measured(folder, geometry.head_units, geometry.ffn)
    cut, _ = measured(folder, geometry.head_units - 1, geometry.ffn // 2)
    estimate = estimated(dense, kind, cut=Cut(counts=Counts(geometry.head_units - 1, geometry.ffn // 2)), rank=4)
    assert estimate.peak_mb(128) == pytest.approx(cut.peak_mb(128), rel=0.08)
    assert estimate.peak_mb(128) < dense.peak_mb(128)
    same = estimated(dense, kind, cut=Cut(counts=geometry.dense), rank=4)
    assert same.peak_mb(128) == pytest.approx(dense.peak_mb(128))
