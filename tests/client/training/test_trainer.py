"""Carrying out an assignment with torch, on a tiny model: what is loaded, cut, trained, timed and cancelled."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedcore.client.training.trainer as module
from fedcore.client.data.rows import Rows
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.trainer import (
    Cancelled,
    ModelSource,
    Trainer,
    TrainingOutcome,
    device_adapter,
    own_label_plan,
    resumed_moments,
    shift_id,
)
from fedcore.client.training.training_state import TrainingState
from fedcore.core.contract.assignment import Arm, TrainingSpec
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import DataError
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.base_shift import shift_shapes
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.quantization import PACKED
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, read_adapter
from fedcore.nn.model.quantized import is_packed
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.moments import Holding, Moment
from fedcore.nn.training.train import train
from fedcore.protos.values import BaseShift, BlobRef, WireAssignment
from fedcore.transport.download import Received
from tests.tiny_models import random_keep_set, tiny_model
from tests.tiny_run import spec_of

LABELS = ("neg", "pos")
ROWS = Rows(
    texts=tuple((f"film {n} was {'good' if n % 2 else 'bad'}",) for n in range(8)),
    labels=tuple(LABELS[n % 2] for n in range(8)),
)
NO_BLOB = BlobRef(id="sha256:" + "0" * 64, size=0)


def assignment(*, rank: int = 2, score: bool = False, trains: TrainedPart | None = None) -> WireAssignment:
    training = TrainingSpec(
        batch_size=2,
        learning_rate=1e-2,
        weight_decay=0.0,
        lora_scale=2.0,
        importance="taylor",
        keep_optimizer=True,
        codec="identity",
        trains=trains or TrainedPart(),
    )
    return WireAssignment(
        round=3,
        arm=Arm(sparsity=0.0, rank=rank),
        keep_set=NO_BLOB,
        rank_blocks=(),
        head=NO_BLOB,
        local_steps=3,
        weight=1,
        seed=4,
        deadline_s=10.0,
        score=score,
        training=training,
        max_upload_bytes=0,
        basis="persistent",
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tiny_model(tmp_path_factory.mktemp("model") / "bert", "bert")
    targets = load_classifier(folder, labels=LABELS).geometry.modules
    return ModelSource(folder=folder, labels=LABELS, head="auto", dtype="float32", max_length=16, targets=targets)


@pytest.fixture(scope="module")
def adapter(source: ModelSource) -> Tensors:
    """The adapter as downloaded: of rank 3, more than an arm of rank 2 takes."""
    classifier = load_classifier(source.folder, labels=LABELS)
    attach(classifier, rank=3, scale=2.0, targets=source.targets)
    return read_adapter(classifier)


@pytest.fixture(scope="module")
def full(source: ModelSource) -> KeepSet:
    return KeepSet.full(load_classifier(source.folder, labels=LABELS).geometry)


@dataclass
class Ticking:
    """A clock that moves on by `step_s` whenever it is read."""

    step_s: float
    now_s: float = 0.0

    def __call__(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@dataclass
class Bench:
    """A trainer and what it did."""

    source: ModelSource
    adapter: Tensors
    slept: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    trainer: Trainer = field(init=False)

    def __post_init__(self) -> None:
        slow = SlowCpu(3.0, sleep=self.slept.append)
        self.trainer = Trainer(self.source, ROWS, slow, clock=Ticking(1.0), cpu_clock=Ticking(0.25))

    def run(
        self, asked: WireAssignment, keep_set: KeepSet, state: TrainingState | None = None, shift: Tensors | None = None
    ) -> TrainingOutcome:
        received = Received(keep_set=keep_set, tensors={**self.adapter, **(shift or {})})
        return self.trainer.run(asked, received, state or TrainingState(), self.steps.append)


@pytest.fixture
def bench(source: ModelSource, adapter: Tensors) -> Bench:
    return Bench(source, adapter)


def test_a_device_without_general_texts_says_so_once_and_trains(bench: Bench, full: KeepSet) -> None:
    asked, said = assignment(), list[str]()
    bench.trainer.say = said.append
    for _ in range(2):
        bench.run(replace(asked, training=replace(asked.training, replay=0.25)), full)
    (line,) = said
    assert "join with --replay FILE" in line and len(bench.steps) == 2 * asked.local_steps


def test_a_round_trains_the_arms_part_of_the_adapter(bench: Bench, full: KeepSet) -> None:
    outcome = bench.run(assignment(), full)
    shapes = {name: value.shape for name, value in outcome.increment.items()}
    assert shapes.keys() == bench.adapter.keys()
    assert {shape[0] for name, shape in shapes.items() if name.endswith(".A")} == {2}, "of rank 3, the arm's ranks"
    assert any(np.abs(value).max() > 0 for value in outcome.increment.values())
    assert bench.steps == [1, 2, 3] and outcome.result.scores is None
    assert outcome.state.holding == Holding(keep_set=full, rank=2) and outcome.state.basis == "persistent"
    assert outcome.state.moments.keys() == outcome.increment.keys()


def test_what_is_frozen_has_no_increment(bench: Bench, full: KeepSet) -> None:
    outcome = bench.run(assignment(trains=TrainedPart(factors=Factors.B)), full)
    assert not any(name.endswith(".A") for name in outcome.increment)
    assert any(name.endswith(".B") for name in outcome.increment) and "head.weight" in outcome.increment


def test_scores_come_where_they_are_asked_for(bench: Bench, full: KeepSet) -> None:
    scores = bench.run(assignment(score=True), full).result.scores
    assert scores is not None
    assert [value.shape for value in scores.heads] == [(4,), (4,)]
    assert [value.shape for value in scores.channels] == [(48,), (48,)]


def test_phases_are_timed_and_a_slow_processor_sleeps_after_each(
    bench: Bench, full: KeepSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept_before: list[float] = []

    def training(*arguments: Any, **named: Any) -> Any:
        slept_before.extend(bench.slept)
        return train(*arguments, **named)

    monkeypatch.setattr(module, "train", training)
    outcome = bench.run(assignment(), full)
    assert slept_before == [0.5], "twice the CPU time of loading and cutting"
    assert (outcome.prune_s, outcome.train_s) == (1.0, 1.0), "one look at the clock apart"
    assert set(bench.slept) == {0.5} and len(bench.slept) >= 4, "and of every step"


def test_equal_assignments_train_alike_on_a_warm_model(bench: Bench, full: KeepSet) -> None:
    first, again = (bench.run(assignment(), full).increment for _ in range(2))
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])


def test_a_model_is_cut_in_place_and_loaded_anew_for_what_was_cut_off(bench: Bench, full: KeepSet) -> None:
    bench.trainer.prepare()
    loaded = bench.trainer._classifier
    cut = random_keep_set(full, heads=2, channels=24)
    assert loaded is not None
    bench.run(assignment(), cut)
    assert bench.trainer._classifier is loaded and loaded.keep_set == cut
    bench.run(assignment(), full)
    assert bench.trainer._classifier is not loaded and bench.trainer._classifier.keep_set == full  # type: ignore[union-attr]


def test_another_base_shift_is_added_to_freshly_loaded_weights(bench: Bench, full: KeepSet) -> None:
    plain = bench.run(assignment(), full).increment
    loaded = bench.trainer._classifier
    assert loaded is not None
    spec = replace(spec_of(loaded.geometry, 3), targets=bench.source.targets)
    rng = np.random.default_rng(0)
    shift = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shift_shapes(spec).items()}
    shifted = replace(assignment(), base_shift=BaseShift(whole=BlobRef(id="sha256:" + "1" * 64, size=1, name="1")))
    moved = bench.run(shifted, full, shift=shift).increment
    assert bench.trainer._classifier is not loaded
    assert any(not np.array_equal(value, plain[name]) for name, value in moved.items())
    loaded = bench.trainer._classifier
    bench.run(shifted, full, shift=shift)
    assert bench.trainer._classifier is loaded, "the same shift is in its weights already"
    for name, value in bench.run(assignment(), full).increment.items():
        np.testing.assert_array_equal(value, plain[name])


def test_training_stops_at_the_step_that_finds_it_cancelled(bench: Bench, full: KeepSet) -> None:
    def on_step(number: int) -> None:
        bench.steps.append(number)
        bench.trainer.cancel.set()

    received = Received(keep_set=full, tensors=bench.adapter)
    with pytest.raises(Cancelled, match="training stopped at step 2: the assignment was taken back"):
        bench.trainer.run(assignment(), received, TrainingState(), on_step)
    assert bench.steps == [1]


def test_another_devices_rows_are_trained_on_with_the_same_model(bench: Bench, full: KeepSet) -> None:
    mine = bench.run(assignment(), full).increment
    loaded = bench.trainer._classifier
    bench.trainer.switch_to(ROWS.select([6, 4, 2, 0, 1]), SlowCpu(1.0))
    theirs = bench.run(assignment(), full).increment
    assert bench.trainer._classifier is loaded
    assert any(not np.array_equal(value, mine[name]) for name, value in theirs.items())
    bench.slept.clear()
    bench.trainer.switch_to(ROWS, SlowCpu(1.0))
    for name, value in bench.run(assignment(), full).increment.items():
        np.testing.assert_array_equal(value, mine[name])
    assert bench.slept == []


def test_a_label_outside_the_agreed_ones_is_named_before_any_assignment(source: ModelSource) -> None:
    rows = Rows(texts=(("good",),), labels=("other",), source="rows.csv")
    with pytest.raises(DataError, match=r"rows.csv: 1 row outside the agreed labels .*'other' \(1 row\)"):
        Trainer(source, rows, SlowCpu(1.0)).prepare()


# --- what an assignment decides ---


def test_a_base_shift_is_known_by_its_whole() -> None:
    assert shift_id(assignment()) == ""
    shift = BaseShift(whole=BlobRef(id="sha256:" + "1" * 64, size=9, name="5"), steps=(NO_BLOB,))
    assert shift_id(replace(assignment(), base_shift=shift)) == "sha256:" + "1" * 64


def test_a_cut_model_takes_its_rows_and_ranks_of_the_adapter(
    source: ModelSource, adapter: Tensors, full: KeepSet
) -> None:
    trainer, cut = Trainer(source, ROWS, SlowCpu(1.0)), random_keep_set(full, heads=2, channels=24)
    received = Received(keep_set=cut, tensors=adapter)
    classifier = trainer._cut_model(assignment(rank=1), received)
    part = device_adapter(classifier, assignment(rank=1), received, source.targets)
    assert part.keys() == adapter.keys()
    np.testing.assert_array_equal(part["layers.0.up.A"], adapter["layers.0.up.A"][:1])
    np.testing.assert_array_equal(part["layers.0.up.B"], adapter["layers.0.up.B"][list(cut.channels[0]), :1])
    np.testing.assert_array_equal(part["head.weight"], adapter["head.weight"])


MOMENTS = {"head.bias": Moment(first=np.ones(2, np.float32), second=np.ones(2, np.float32), step=5)}


def state(full: KeepSet, **changes: object) -> TrainingState:
    values = {"basis": "persistent", "holding": Holding(keep_set=full, rank=2), "moments": MOMENTS}
    return TrainingState(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        (lambda asked: asked, True),
        (lambda asked: replace(asked, basis="another"), False),
        (lambda asked: replace(asked, training=replace(asked.training, keep_optimizer=False)), False),
    ],
)
def test_moments_are_resumed_where_the_basis_stays_and_the_run_keeps_them(
    changed: Callable[[WireAssignment], WireAssignment], kept: bool, source: ModelSource, full: KeepSet
) -> None:
    geometry = load_classifier(source.folder, labels=LABELS).geometry
    after = Holding(keep_set=full, rank=2)
    assert (resumed_moments(changed(assignment()), state(full), geometry, after) == MOMENTS) == kept
    assert resumed_moments(assignment(), TrainingState(basis="persistent"), geometry, after) == {}
    assert resumed_moments(assignment(), state(full, holding=None), geometry, after) is MOMENTS


def test_a_device_acts_on_label_skew_only_where_it_hears_of_the_fleets_labels() -> None:
    rows = EncodedRows(token_ids=((4,), (5,), (6,)), segment_ids=(), labels=np.array([0, 0, 1]), pad_id=0)
    assert own_label_plan(assignment(), rows) == LabelPlan()
    plan = own_label_plan(replace(assignment(), label_counts=(10, 10)), rows)
    assert plan.draws is None and plan.shift is not None
    np.testing.assert_allclose(plan.shift[0] - plan.shift[1], np.log(3 / 2), rtol=1e-5)  # (2 + 1) / (1 + 1) rows
    balanced = replace(assignment(), label_counts=(10, 10))
    balanced = replace(balanced, training=replace(balanced.training, balanced=True))
    assert own_label_plan(balanced, rows).draws == (2, 2)


def test_the_model_folder_is_read_once(source: ModelSource, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "own", "bert")
    trainer = Trainer(replace(source, folder=folder), ROWS, SlowCpu(1.0))
    trainer.prepare()
    (folder / "model.safetensors").unlink()
    trainer.prepare()
    assert trainer._encoded is not None and len(trainer._encoded) == 8


@pytest.mark.parametrize("form", PACKED)
def test_a_quantised_base_is_loaded_anew_for_another_keep_set(
    bench: Bench, full: KeepSet, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Path] = []
    plain = module.load_classifier

    def counted(folder: Path, **how: Any) -> Any:
        loads.append(folder)
        return plain(folder, **how)

    monkeypatch.setattr(module, "load_classifier", counted)
    asked = assignment(score=True)
    packed = replace(asked, training=replace(asked.training, quantize=form))
    smaller = random_keep_set(full, heads=2, channels=24)
    for keep_set, expected in ((full, 1), (full, 1), (smaller, 2), (smaller, 2), (full, 3)):
        outcome = bench.run(packed, keep_set)
        assert len(loads) == expected
        assert bench.trainer._classifier is not None and is_packed(bench.trainer._classifier.base_linear(0, "q"))
        assert outcome.result.scores is not None and outcome.state.holding == Holding(keep_set=keep_set, rank=2)
    bench.run(asked, full)
    assert len(loads) == 4 and not is_packed(bench.trainer._classifier.base_linear(0, "q"))


@pytest.mark.parametrize("form", PACKED)
def test_rounding_moves_the_increment_a_little(bench: Bench, full: KeepSet, form: str) -> None:
    asked = assignment()
    plain = bench.run(asked, full).increment
    packed = bench.run(replace(asked, training=replace(asked.training, quantize=form)), full).increment
    for name, value in plain.items():
        assert packed[name].shape == value.shape
    close = sum(float(np.sum(packed[name] * plain[name])) for name in plain)
    norms = [sum(float(np.sum(value**2)) for value in each.values()) ** 0.5 for each in (plain, packed)]
    assert 0.5 < close / (norms[0] * norms[1]) < 1.0 - 1e-7
