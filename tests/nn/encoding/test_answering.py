"""Greedy answers, and that a model learns to stop."""

from pathlib import Path

import numpy as np
import pytest

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.data.dialogue import row_of
from fedcore.core.tasks.generation import GENERATION
from fedcore.nn.encoding.answering import answers_to, asked
from fedcore.nn.encoding.dialogues import encode_dialogues
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.evaluate import evaluate
from fedcore.nn.training.train import train
from tests.tiny_models import tiny_model

ANSWERS = {"good film": "very great", "bad plot": "dull", "the actor": "a story and a film"}
SPEC = TrainingSpec(
    batch_size=6,
    learning_rate=0.02,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=False,
    codec="identity",
)


def rows(folder: Path, max_length: int = 24) -> EncodedRows:
    return encode_dialogues(folder, [row_of(*row) for row in ANSWERS.items()], max_length=max_length, template="auto")


def writer(folder: Path) -> Classifier:
    model = load_classifier(folder, labels=(), task=GENERATION)
    attach(model, rank=8, scale=2.0, targets=model.geometry.modules)
    return model


@pytest.mark.parametrize("kind", ["llama", "llama-gqa"])
def test_a_model_learns_its_answers_and_where_to_stop(tmp_path: Path, kind: str) -> None:
    model, given = writer(tiny_model(tmp_path, kind, writes=True)), rows(tmp_path)
    every = np.arange(3)
    before = evaluate(model, given).figures["perplexity"] or 0.0
    assert answers_to(model, given, every, tokens=12) != list(ANSWERS.values())
    train(model, given, spec=SPEC, steps=120, seed=0)
    assert answers_to(model, given, every, tokens=12) == list(ANSWERS.values()), "neither cut nor gone on"
    after = evaluate(model, given).figures
    assert (after["perplexity"] or 9.0) < 1.5 < before and after["token_accuracy"] == 1.0


def test_questions_of_different_lengths_are_answered_as_alone(tmp_path: Path) -> None:
    model = writer(tiny_model(tmp_path, "llama", writes=True))
    given = encode_dialogues(
        tmp_path, [row_of("good " * size, "film") for size in (1, 9, 4)], max_length=24, template="auto"
    )
    together = answers_to(model, given, np.array([2, 0, 1]), tokens=6)
    alone = [answers_to(model, given, np.array([row]), tokens=6)[0] for row in (2, 0, 1)]
    assert together == alone


def test_rows_are_asked_evenly_and_plain_texts_never(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, "llama", writes=True)
    mixed = [row_of("good film", None if row % 2 else "plot") for row in range(10)]
    given = encode_dialogues(folder, mixed, max_length=8, template="auto")
    assert asked(given, 3).tolist() == [0, 4, 8] and asked(given, 50).tolist() == [0, 2, 4, 6, 8]
    assert not len(asked(given, 0)) and not len(asked(given.select(np.array([1, 3])), 5))
