"""What a summary says of floors."""

from typing import Any

from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.server.run.floors import floor_figures, floor_values, floor_warnings

FLOOR = {"accuracy": 0.5, "macro_f1": 0.25, "rows": 400}
FOUND = {"majority_label": "neg", "majority": FLOOR, "tfidf": None, "tfidf_rows": 0, "cross_validated": False}
WORDS = {**FOUND, "tfidf": {**FLOOR, "accuracy": 0.75}, "tfidf_rows": 320, "cross_validated": True}
LABELS = ("neg", "pos")
ACCURACY = CLASSIFICATION.headline
OF: Any = {"labels": LABELS, "headline": ACCURACY}


def metrics(accuracy: float, answers: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"accuracy": accuracy, "auc": None, "macro_f1": 0.4, "loss": 0.6, "rows": 400, "answers": [*answers]}


def class_of(accuracy: float | None, sparsity: float = 0.35, answers: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"realised_sparsity": sparsity, "test": None if accuracy is None else metrics(accuracy, answers)}


def test_floors_that_nobody_found_are_none() -> None:
    assert floor_figures(None, None) == {"majority": None, "untrained": None, "tfidf": None}
    assert floor_values(floor_figures(None, None), ACCURACY) == {}
    assert floor_figures(FOUND, metrics(0.45))["tfidf"] is None


def test_floors_say_what_they_are_of() -> None:
    figures = floor_figures(WORDS, metrics(0.45))
    assert figures["majority"] == {"label": "neg", **FLOOR}
    assert figures["tfidf"] == {**FLOOR, "accuracy": 0.75, "trained_on": 320, "cross_validated": True}
    assert floor_values(figures, ACCURACY) == {
        "always answering 'neg'": 0.5,
        "the untrained model": 0.45,
        "TF-IDF with logistic regression": 0.75,
    }


def test_the_delivered_models_are_held_against_the_floors() -> None:
    figures, final = floor_figures(WORDS, None), metrics(0.85)
    assert floor_warnings(figures, {"nx": class_of(0.85)}, final, **OF) == []
    (warning,) = floor_warnings(figures, {"nx": class_of(0.5, answers=(396, 4)), "agx": class_of(0.9)}, final, **OF)
    assert "nx (35% pruned) 0.500 is no better than always answering 'neg'" in warning
    assert "answers 'neg' for 99% of the rows" in warning and "the dense adapter has 0.850" in warning


def test_without_a_delivered_model_the_dense_one_stands_for_it() -> None:
    figures = floor_figures(WORDS, None)
    (warning,) = floor_warnings(figures, {"nx": class_of(None)}, metrics(0.5), **OF)
    assert "the global adapter 0.500 is no better than" in warning
    assert floor_warnings(figures, {}, None, **OF) == []


def test_figures_of_an_evaluator_that_tells_no_answers() -> None:
    old = metrics(0.5)
    del old["answers"]
    (warning,) = floor_warnings(floor_figures(FOUND, None), {}, old, **OF)
    assert "answers" not in warning.split("Likely causes")[0].replace("answering", "")
