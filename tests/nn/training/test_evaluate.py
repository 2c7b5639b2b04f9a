import numpy as np
import pytest
import torch

from fedcore.core.errors import ConfigError
from fedcore.nn.training.batches import collate
from fedcore.nn.training.evaluate import evaluate, forward_logits, predict
from fedcore.nn.training.latency import WARM_UP, interleaved_latency
from tests.tiny_classifiers import FAMILIES, learnable_rows, tiny_classifier


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_logits_come_in_row_order(family: str, batch_size: int) -> None:
    classifier = tiny_classifier(family)
    classifier.model.eval()
    rows = learnable_rows(10)
    logits = predict(classifier, rows, batch_size)
    assert logits.dtype == np.float32
    with torch.no_grad():
        for index in range(10):
            alone = forward_logits(classifier, collate(rows, [index]))[0].numpy()
            np.testing.assert_allclose(logits[index], alone, rtol=1e-4, atol=1e-5)


def test_predicting_leaves_the_training_mode_as_it_was() -> None:
    classifier = tiny_classifier("bert")
    classifier.model.train()
    predict(classifier, learnable_rows(3))
    assert classifier.model.training


def test_metrics_are_those_of_the_logits() -> None:
    classifier, rows = tiny_classifier("bert"), learnable_rows(12)
    metrics = evaluate(classifier, rows, 5)
    logits = predict(classifier, rows)
    assert metrics.rows == 12
    assert metrics.figures["accuracy"] == np.mean(logits.argmax(1) == rows.labels)
    assert metrics.figures["auc"] is not None
    assert (metrics.figures["loss"] or 0.0) > 0


def test_one_class_has_no_auc() -> None:
    assert evaluate(tiny_classifier("bert"), learnable_rows(4, classes=1)).figures["auc"] is None


def test_latency_takes_turns_and_gives_medians() -> None:
    models = {"dense": tiny_classifier("bert"), "other": tiny_classifier("llama-gqa")}
    calls: list[str] = []
    for name, classifier in models.items():
        classifier.model.register_forward_hook(lambda *_, name=name: calls.append(name))
    ticks = iter([0.0] * 2 * WARM_UP + [0, 1, 0, 5, 0, 3, 0, 5, 0, 2, 0, 9])
    medians = interleaved_latency(models, collate(learnable_rows(2), [0, 1]), 3, clock=lambda: next(ticks))
    assert medians == {"dense": 2.0, "other": 5.0}
    assert calls == ["dense", "other"] * (WARM_UP + 3)


def test_latency_of_large_models_takes_few_repeats() -> None:
    models = {"one": tiny_classifier("bert")}
    ticks = iter([0.0, 1.0] * 20)
    assert interleaved_latency(models, collate(learnable_rows(2), [0, 1]), 15, most_s=4.5, clock=lambda: next(ticks))
    assert len([*ticks]) == 40 - WARM_UP - 2 * 5, "the fifth repeat brings the passes above 4.5 s"


def test_latency_takes_three_repeats_however_long() -> None:
    models = {"one": tiny_classifier("bert")}
    ticks = iter([0.0, 9.0] * 20)
    interleaved_latency(models, collate(learnable_rows(2), [0, 1]), 15, most_s=1.0, clock=lambda: next(ticks))
    assert len([*ticks]) == 40 - WARM_UP - 2 * 3


def test_latency_without_repeats_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one repeat"):
        interleaved_latency({}, {}, 0)
