"""What an evaluator measures, writes and trains, on a tiny model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import fedcore.client.evaluation.model_evaluator as module
from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.model_evaluator import Adapter, ModelEvaluator, merged_model, with_adapter
from fedcore.client.training.trainer import ModelSource
from fedcore.core.contract.outcome import TrainingMetrics
from fedcore.core.errors import DataError
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, read_adapter
from fedcore.nn.training.evaluate import predict
from fedcore.nn.training.train import TrainingAids, TrainResult
from fedcore.protos.values import BlobRef, GlobalAdapter, ReferenceTask
from tests.tiny_models import WORDS, random_keep_set, tiny_model

LABELS = ("no", "yes")
YES = (0, 3, 5, 8)  # the rows that are "yes" of nine
TEST = Rows(
    texts=tuple((" ".join(WORDS[index : index + 3]),) for index in range(9)),
    labels=tuple("yes" if index in YES else "no" for index in range(9)),
)
TRAIN = Rows(texts=(("good film",), ("bad plot",)), labels=("yes", "no"))
SCALE = 2.0


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tiny_model(tmp_path_factory.mktemp("model") / "bert", "bert")
    targets = load_classifier(folder, labels=LABELS).geometry.modules
    return ModelSource(folder=folder, labels=LABELS, head="auto", dtype="float32", max_length=16, targets=targets)


@pytest.fixture(scope="module")
def adapter(source: ModelSource) -> Adapter:
    """An adapter of rank 3 that changes every logit."""
    classifier = load_classifier(source.folder, labels=LABELS)
    attach(classifier, rank=3, scale=SCALE, targets=source.targets)
    rng = np.random.default_rng(0)
    return {
        name: value + rng.normal(scale=0.1, size=value.shape).astype(np.float32)
        for name, value in read_adapter(classifier).items()
    }


@pytest.fixture
def evaluator(source: ModelSource) -> ModelEvaluator:
    return ModelEvaluator(source=source, test=TEST, train=TRAIN)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What took all cores."""
    calls: list[str] = []
    monkeypatch.setattr(module, "use_all_cores", lambda: calls.append("all"))
    return calls


def half(geometry: Geometry) -> KeepSet:
    return random_keep_set(KeepSet.full(geometry), heads=2, channels=24)


@pytest.mark.parametrize(("rows", "chosen"), [(4, (0, 3, 5, 8)), (3, (0, 4, 8)), (1, (0,)), (2, (0, 8))])
def test_fewer_rows_are_spread_evenly_over_all(
    rows: int, chosen: tuple[int, ...], evaluator: ModelEvaluator, adapter: Adapter
) -> None:
    dense = KeepSet.full(load_classifier(evaluator.source.folder, labels=LABELS).geometry)
    every = evaluator.predict(adapter, dense, 0, SCALE)
    some = evaluator.predict(adapter, dense, rows, SCALE)
    assert some.labels.tolist() == [int(index in YES) for index in chosen]
    np.testing.assert_allclose(some.logits, every.logits[list(chosen)], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 9, 10, 500])
def test_no_number_or_too_large_a_one_means_all_rows(
    rows: int, evaluator: ModelEvaluator, adapter: Adapter, cores: list[str]
) -> None:
    assert evaluator.evaluate(adapter, rows, SCALE).rows == 9
    assert cores == (["all"] if rows == 0 else []), "at the end of a run nothing else trains on this machine"


def test_the_adapter_is_measured_on_the_dense_model(evaluator: ModelEvaluator, adapter: Adapter) -> None:
    metrics = evaluator.evaluate(adapter, 5, SCALE)
    classifier = with_adapter(evaluator.source, adapter, KeepSet.full, SCALE)
    logits = predict(classifier, evaluator._test_subset(5))
    labels = np.array([int(index in YES) for index in (0, 2, 4, 6, 8)])
    assert metrics.rows == 5 and metrics.figures["accuracy"] == np.mean(logits.argmax(axis=1) == labels)
    assert classifier.keep_set == KeepSet.full(classifier.geometry)


def test_a_merged_model_predicts_what_the_adapter_beside_it_does(source: ModelSource, adapter: Adapter) -> None:
    rows = ModelEvaluator(source=source, test=TEST, train=TRAIN)._test_subset(0)
    beside, merged = (make(source, adapter, half, SCALE) for make in (with_adapter, merged_model))
    np.testing.assert_allclose(predict(merged, rows), predict(beside, rows), rtol=1e-4, atol=1e-5)
    assert merged.keep_set == beside.keep_set == half(merged.geometry)
    assert not any("lora" in name.lower() for name, _ in merged.model.named_parameters())


def test_predictions_come_from_the_pruned_model(evaluator: ModelEvaluator, adapter: Adapter) -> None:
    geometry = load_classifier(evaluator.source.folder, labels=LABELS).geometry
    pruned = evaluator.predict(adapter, half(geometry), 0, SCALE)
    dense = evaluator.predict(adapter, KeepSet.full(geometry), 0, SCALE)
    assert pruned.logits.shape == (9, 2) and pruned.parameters < dense.parameters
    assert not np.allclose(pruned.logits, dense.logits)


def test_an_export_is_written_and_measured(
    evaluator: ModelEvaluator, adapter: Adapter, cores: list[str], tmp_path: Path
) -> None:
    geometry = load_classifier(evaluator.source.folder, labels=LABELS).geometry
    outcome = evaluator.export(adapter, half(geometry), SCALE, tmp_path / "nx")
    assert (tmp_path / "nx" / "model.safetensors").is_file() and (tmp_path / "nx" / "tokenizer.json").is_file()
    assert outcome.files == () and outcome.metrics.rows == 9 and cores == ["all"]
    assert 0 < outcome.parameters < outcome.dense_parameters
    assert outcome.dense_size_bytes == 4 * outcome.dense_parameters
    assert outcome.latency_s > 0 and outcome.dense_latency_s > 0
    assert KeepSet.from_bytes((tmp_path / "nx" / "keep_set.json").read_bytes()) == half(geometry)


def reference(adapter_rank: int = 2, steps: int = 25) -> ReferenceTask:
    start = GlobalAdapter(round=0, rank_blocks=(), head=BlobRef(id="", size=0))
    return ReferenceTask(
        start=start,
        steps=steps,
        rank=adapter_rank,
        batch_size=2,
        learning_rate=0.1,
        weight_decay=0.01,
        lora_scale=SCALE,
        seed=3,
    )


def test_the_reference_trains_in_ten_parts_at_a_falling_rate(
    evaluator: ModelEvaluator, adapter: Adapter, cores: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[Any] = []

    def train(classifier: Any, rows: Any, *, spec: Any, steps: int, seed: int, aids: TrainingAids) -> TrainResult:
        ranks = {value.shape[0] for name, value in read_adapter(classifier).items() if name.endswith(".A")}
        parts.append((steps, spec.learning_rate, seed, len(aids.moments), len(rows), ranks))
        return TrainResult(
            metrics=TrainingMetrics(
                loss_before=0.0, loss_after=0.0, train_loss=0.0, peak_memory_mb=0.0, adapter_importance=0.0
            ),
            moments={str(number): None for number in range(len(parts))},  # type: ignore[misc]
            scores=None,
        )

    monkeypatch.setattr(module, "train", train)
    assert evaluator.reference(adapter, reference()).rows == 9
    steps, rates, seeds, moments, rows, ranks = zip(*parts, strict=True)
    assert steps == (2, 3, 2, 3, 2, 3, 2, 3, 2, 3), "25 steps"
    assert rates[0] == 0.1 and rates[-1] == pytest.approx(0.01) and list(rates) == sorted(rates, reverse=True)
    assert len(set(seeds)) == 10 and moments == tuple(range(10)), "moments go on from part to part"
    assert set(rows) == {2} and all(found == {2} for found in ranks) and cores == ["all"]


def test_a_reference_of_few_steps_leaves_parts_out(
    evaluator: ModelEvaluator, adapter: Adapter, cores: list[str]
) -> None:
    before = evaluator.evaluate(adapter, 0, SCALE)
    after = evaluator.reference(adapter, reference(adapter_rank=3, steps=3))
    assert after.rows == 9 and after.figures["loss"] != before.figures["loss"]


def test_a_reference_needs_training_rows(source: ModelSource, adapter: Adapter) -> None:
    evaluator = ModelEvaluator(source=source, test=TEST, train=Rows(texts=(), labels=()))
    with pytest.raises(DataError, match="the evaluator has no training rows"):
        evaluator.reference(adapter, reference())


def test_all_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    set_to: list[int] = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    module.use_all_cores()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    module.use_all_cores()
    assert set_to == [3, 8], "never fewer than before"


@pytest.mark.parametrize(("dtype", "merges"), [("float32", True), ("bfloat16", False)])
def test_only_float32_weights_take_the_adapter_in_before_predictions(
    dtype: str, merges: bool, source: ModelSource, adapter: Adapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merged into bfloat16 weights, a small increment would be rounded away."""
    merged: list[str] = []

    def merging(*arguments: Any) -> Any:
        merged.append(dtype)
        return merged_model(*arguments)

    monkeypatch.setattr(module, "merged_model", merging)
    full = KeepSet.full(load_classifier(source.folder, labels=LABELS).geometry)
    evaluator = ModelEvaluator(source=replace(source, dtype=dtype), test=TEST, train=TRAIN)
    assert evaluator.predict(adapter, full, 1, SCALE).logits.shape == (1, 2) and bool(merged) == merges


def test_a_pruned_model_is_measured_as_it_predicts(evaluator: ModelEvaluator, adapter: Adapter) -> None:
    geometry = load_classifier(evaluator.source.folder, labels=LABELS).geometry
    pruned = evaluator.predict(adapter, half(geometry), 0, SCALE)
    metrics = evaluator.evaluate(adapter, 9, SCALE, half(geometry))
    predicted = pruned.logits.argmax(axis=1)
    assert metrics.figures["accuracy"] == np.mean(predicted == pruned.labels)
    assert metrics.answers == tuple(np.bincount(predicted, minlength=2))
    assert evaluator.evaluate(adapter, 9, SCALE).figures["loss"] != metrics.figures["loss"]


def test_words_are_learned_once(evaluator: ModelEvaluator, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluator.floors("")
    monkeypatch.setattr(module, "find_floors", None)
    assert evaluator.floors("") == first and first.tfidf is None
    assert evaluator.floors("yes").majority.figures["accuracy"] == len(YES) / 9


def test_some_rows_set_the_thresholds_and_the_others_are_measured(
    source: ModelSource, adapter: Adapter, tmp_path: Path, cores: list[str]
) -> None:
    many = Rows(texts=TEST.texts * 16, labels=TEST.labels * 16)
    evaluator = ModelEvaluator(source=source, test=many, train=TRAIN)
    drifted = dict(adapter) | {"head.bias": adapter["head.bias"] + np.array([50.0, 0.0], dtype=np.float32)}
    keep_set = half(load_classifier(source.folder, labels=LABELS).geometry)

    as_is = evaluator.export(drifted, keep_set, SCALE, tmp_path / "as-is")
    made = evaluator.export(drifted, keep_set, SCALE, tmp_path / "set", offsets=True)

    assert as_is.label_offsets == () and as_is.metrics.rows == 144 and as_is.metrics.answers == (144, 0)
    assert made.metrics.rows == 144 - (80 // 8 + 64 // 8)
    assert min(made.metrics.answers) > 0
    assert made.label_offsets == pytest.approx((-25.0, 25.0), abs=3)
    weights = [load_file(tmp_path / name / "model.safetensors")["classifier.bias"] for name in ("as-is", "set")]
    np.testing.assert_allclose(weights[1] - weights[0], made.label_offsets, atol=1e-4)
    live = evaluator.evaluate(drifted, 20, SCALE, keep_set, offsets=True)
    assert live.rows == 20 and min(live.answers) > 0


def test_too_few_rows_set_no_thresholds(evaluator: ModelEvaluator, adapter: Adapter) -> None:
    few = ModelEvaluator(source=evaluator.source, test=Rows(texts=TEST.texts[:6], labels=TEST.labels[:6]), train=TRAIN)
    assert few.evaluate(adapter, 0, SCALE, offsets=True) == few.evaluate(adapter, 0, SCALE)
