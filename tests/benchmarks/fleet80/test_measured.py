"""Figures of a classifier and of a model that writes, over all rows and row by row."""

import math

import numpy as np
import pytest

from benchmarks.fleet80.measured import measured
from fedcore.client.evaluation.model_evaluator import Predictions, Written
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.generation import GENERATION


def test_a_classifier_has_the_rows_right_that_its_accuracy_counts() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], dtype=np.float32)
    found = measured(CLASSIFICATION, Predictions(logits=logits, labels=np.array([0, 1, 1]), parameters=5))
    assert found.figures["accuracy"] == pytest.approx(2 / 3) and found.right.tolist() == [True, True, False]
    assert found.losses == ()


def test_a_model_that_writes_has_losses_whose_mean_is_its_own() -> None:
    outputs = np.array([[4.0, 2.0, 1.0], [2.0, 4.0, 3.0]], dtype=np.float32)  # nats, tokens, right ones
    written = Written(prompts=("a", "b"), answers=("Good film", "no"), references=(("good film",), ("yes", "well")))
    found = measured(
        GENERATION, Predictions(logits=outputs, labels=np.zeros(2, dtype=np.int64), parameters=5, written=written)
    )
    assert found.figures["perplexity"] == pytest.approx(math.e) and found.figures["loss"] == pytest.approx(1.0)
    assert found.figures["exact_match"] == 0.5 and found.right.tolist() == [True, False]
    assert np.mean(found.losses) == pytest.approx(1.0) and found.losses[0] == 2 * found.losses[1]
