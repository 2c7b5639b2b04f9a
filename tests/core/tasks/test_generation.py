"""The task of models that write."""

import math

import numpy as np
import pytest

from fedcore.core.data.dialogue import row_of
from fedcore.core.errors import DataError
from fedcore.core.tasks.generation import GENERATION


def test_every_answered_token_counts_alike() -> None:
    outputs = np.array([[2.0, 1.0, 0.0], [1.0, 5.0, 3.0]], dtype=np.float32)  # nats, tokens, right ones
    metrics = GENERATION.measure(outputs, np.zeros(2, dtype=np.int64))
    assert metrics.figures["perplexity"] == pytest.approx(math.e**0.5)
    assert metrics.figures["token_accuracy"] == pytest.approx(0.5) and metrics.rows == 2


def test_a_perplexity_beyond_measure_is_a_number() -> None:
    metrics = GENERATION.measure(np.array([[1e6, 1.0, 0.0]], dtype=np.float32), np.zeros(1, dtype=np.int64))
    assert math.isfinite(metrics.figures["perplexity"] or math.inf)


def test_rows_without_an_answered_token_are_refused() -> None:
    with pytest.raises(DataError, match="no token of these rows is answered"):
        GENERATION.measure(np.zeros((2, 3), dtype=np.float32), np.zeros(2, dtype=np.int64))


def test_targets_are_zeros_and_have_to_be_answers() -> None:
    targets = [row_of("a", "b")[1], row_of("a", None)[1]]
    assert GENERATION.targets(targets, ()).tolist() == [0, 0] and GENERATION.counts(targets) == ()
    with pytest.raises(DataError, match="not a row of prompt and answers"):
        GENERATION.targets(["positive"], ())


def test_the_head_is_the_models_own() -> None:
    assert GENERATION.outputs(()) == 0 and GENERATION.headline.name == "perplexity"
