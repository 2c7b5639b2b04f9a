"""General texts among a device's own rows."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcore.core.contract.distillation import Distillation
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.seeds import generator
from fedcore.nn.losses.next_token import NEXT_TOKEN, WEIGHTS
from fedcore.nn.model.lora import read_adapter
from fedcore.nn.training.batches import EncodedRows, epoch_batches
from fedcore.nn.training.replay import Mixture, replayed_rows
from fedcore.nn.training.teacher import answers
from fedcore.nn.training.train import TrainingAids, train
from tests.nn.losses.test_next_token import writer
from tests.nn.training.test_teacher import written_rows
from tests.tiny_classifiers import SPEC


def halves() -> tuple[EncodedRows, EncodedRows]:
    both = written_rows(24)
    return both.select(np.arange(16)), both.select(np.arange(16, 24))


def first(mixture: Mixture, count: int, size: int = 4) -> list[list[int]]:
    return [batch.tolist() for batch in islice(mixture.batches(size, 3, LabelPlan()), count)]


def test_without_texts_batches_are_what_they_were() -> None:
    rows, texts = halves()
    plain = [batch.tolist() for batch in islice(epoch_batches(rows, 4, generator(3, "batches")), 6)]
    assert first(Mixture.of(rows, None, 0.5), 6) == plain
    assert first(Mixture.of(rows, texts, 0.0), 6) == plain


def test_a_batch_has_its_share_of_texts_and_every_text_has_its_turn() -> None:
    mixture = Mixture.of(*halves(), 0.25)
    batches = first(mixture, 8, size=5)
    assert all([index >= 16 for index in batch] == [False] * 4 + [True] for batch in batches)
    assert sorted(batch[-1] for batch in batches) == list(range(16, 24))


@pytest.mark.parametrize(("size", "share", "expected"), [(8, 0.25, 2), (8, 0.01, 1), (2, 0.5, 1), (16, 0.5, 8)])
def test_there_is_room_for_both(size: int, share: float, expected: int) -> None:
    assert replayed_rows(size, share) == expected


def test_texts_make_their_share_of_the_loss_and_no_more(tmp_path: Path) -> None:
    model, (rows, texts) = writer(tmp_path), halves()
    mixture = Mixture.of(rows, texts, 0.3)
    indices = np.array([0, 5, 16, 20])
    with torch.no_grad():
        mixed = NEXT_TOKEN.outputs(model, mixture.collate(indices), None)
        own = NEXT_TOKEN.outputs(model, mixture.collate(indices[:2]), None)
        general = NEXT_TOKEN.outputs(model, {**mixture.collate(indices[2:]), WEIGHTS: torch.ones(2)}, None)
    means = [float(NEXT_TOKEN.mean(outputs, torch.zeros(2))) for outputs in (own, general)]
    assert float(NEXT_TOKEN.mean(mixed, torch.zeros(4))) == pytest.approx(0.7 * means[0] + 0.3 * means[1], rel=1e-4)
    assert WEIGHTS not in mixture.collate(indices[:2])


def test_training_sees_texts_and_asks_the_teacher_about_them(tmp_path: Path) -> None:
    rows, texts = halves()
    asked: list[int] = []
    dense = writer(tmp_path / "a")

    def teacher(all_rows: EncodedRows, wanted: np.ndarray) -> object:  # type: ignore[type-arg]
        asked.extend(wanted.tolist())
        return answers(dense, all_rows, wanted, 2)

    adapters = []
    for share in (0.0, 0.25):
        model = writer(tmp_path / "a")
        how = Distillation(weight=0.5, temperature=1.0, mix=0.5) if share else None
        spec = replace(SPEC, replay=share, distillation=how)
        aids = TrainingAids(texts=texts, teacher=teacher)  # type: ignore[arg-type]
        result = train(model, rows, spec=spec, steps=2, seed=1, aids=aids)
        assert np.isfinite(result.metrics.train_loss)
        adapters.append(read_adapter(model))
    assert len([row for row in asked if row >= 16]) == 2
    assert any((value != adapters[1][name]).any() for name, value in adapters[0].items())
