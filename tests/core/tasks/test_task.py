"""Figures of a task, and how they are told."""

from dataclasses import replace

import pytest

from fedcore.core.data.figures import Figure, Metrics
from fedcore.core.errors import ConfigError, DataError, ModelError
from fedcore.core.tasks.classification import CLASSIFICATION


def test_words_begin_with_the_headline_and_leave_out_what_was_not_measured() -> None:
    measured = {"accuracy": 0.75, "auc": None, "macro_f1": 0.5, "loss": 0.25}
    assert CLASSIFICATION.words(measured) == "accuracy 0.750"
    assert CLASSIFICATION.words({**measured, "auc": 0.875}, "report") == "accuracy 0.750, AUC 0.875, macro-F1 0.500"
    assert CLASSIFICATION.words({}) == "accuracy n/a"


def test_complete_metrics_have_every_figure_in_order_and_no_other() -> None:
    whole = CLASSIFICATION.complete(
        Metrics(figures={"loss": 0.5, "rmse": 3.0, "accuracy": 0.75}, rows=4, answers=(4, 0))
    )
    assert list(whole.flat().items()) == [
        ("accuracy", 0.75),
        ("auc", None),
        ("macro_f1", None),
        ("loss", 0.5),
        ("rows", 4),
        ("answers", (4, 0)),
    ]


def test_a_figure_knows_which_of_two_values_is_better() -> None:
    error = Figure(name="rmse", title="RMSE", higher_is_better=False, digits=1)
    assert error.exceeds(1.0, 2.0) and not error.exceeds(2.0, 2.0) and error.text(2.0) == "2.0"
    accuracy = CLASSIFICATION.headline
    assert accuracy.exceeds(0.75, 0.5, 0.2) and not accuracy.exceeds(0.75, 0.5, 0.25)


def test_only_a_labelled_task_counts_labels() -> None:
    column = ("no", "yes", "no")
    assert CLASSIFICATION.counts(column) == (("no", 2), ("yes", 1))
    assert replace(CLASSIFICATION, labelled=False).counts(column) == ()


def test_a_label_is_its_position_in_the_agreed_list() -> None:
    targets = CLASSIFICATION.targets(("b", "a"), ("a", "b"))
    assert targets.tolist() == [1, 0] and targets.dtype == CLASSIFICATION.target_type
    with pytest.raises(DataError, match="label 'c' is not one of the agreed labels"):
        CLASSIFICATION.targets(("c",), ("a", "b"))


def test_a_classifier_has_an_output_for_each_of_two_labels_or_more() -> None:
    assert CLASSIFICATION.outputs(("a", "b", "c")) == 3
    with pytest.raises(ModelError, match="a classifier needs at least two labels, got 1"):
        CLASSIFICATION.outputs(("a",))


def test_a_task_has_figures_of_different_names() -> None:
    for figures in ((), (CLASSIFICATION.headline, CLASSIFICATION.headline)):
        with pytest.raises(ConfigError, match="expected one figure or more, of different names"):
            replace(CLASSIFICATION, figures=figures)
