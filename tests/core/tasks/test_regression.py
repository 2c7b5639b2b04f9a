"""Regression: numbers as targets, in units of the run's range."""

import pickle

import numpy as np
import pytest

from fedcore.core.errors import ConfigError, DataError
from fedcore.core.tasks.regression import REGRESSION, fault
from fedcore.core.tasks.table import task_named
from fedcore.core.tasks.task import Range

STARS = Range(low=1.0, high=5.0)


@pytest.mark.parametrize("text", ["3.5", "-2", "1e3", " 4 ", ".5", "0"])
def test_numbers_are_targets(text: str) -> None:
    assert fault(text) == ""
    assert REGRESSION.targets((text,), ()).tolist() == [float(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("good", "'good' is no number; write a number such as 3.5, or drop the row"),
        ("3,5", "'3,5' is no number; write 3.5"),
        ("nan", "'nan' is no finite number"),
        ("-inf", "'-inf' is no finite number"),
        ("1e39", "'1e39' is no finite number"),
        ("1_000", "'1_000' is no finite number"),
        ("", "'' is no number"),
    ],
)
def test_what_is_no_number_is_told_with_the_remedy(text: str, words: str) -> None:
    assert words in fault(text)
    with pytest.raises(DataError, match="is no"):
        REGRESSION.targets(("1", text), ())


def test_a_unit_is_a_quarter_of_the_range_and_figures_are_in_the_targets_own() -> None:
    task = task_named("regression:0:8")
    targets = task.targets(("2", "4", "8"), ())
    assert targets.tolist() == [1.0, 2.0, 4.0] and targets.dtype == task.target_type
    metrics = task.measure(np.array([[2.0], [2.0], [4.0]], np.float32), targets)
    assert metrics.figures["mae"] == pytest.approx(2 / 3) and metrics.figures["rmse"] == pytest.approx((4 / 3) ** 0.5)
    assert metrics.figures["loss"] == pytest.approx(1 / 3) and metrics.rows == 3
    assert list(metrics.figures) == [figure.name for figure in task.figures]
    alike = REGRESSION.measure(np.array([[4.0], [4.0], [8.0]], np.float32), REGRESSION.targets(("2", "4", "8"), ()))
    assert {**metrics.figures, "loss": None} == {**alike.figures, "loss": None}, "whatever the unit"


def test_the_best_blind_answer_is_the_mean_and_orders_nothing() -> None:
    task = task_named("regression:0:8")
    targets = task.targets(("2", "4", "9"), ())
    constant = task.constant(targets) if task.constant else None
    assert constant is not None and constant.name == "5"
    figures = task.measure(np.tile(constant.outputs, (3, 1)), targets).figures
    assert figures["spearman"] == figures["pearson"] == 0.0 and figures["rmse"] == pytest.approx((26 / 3) ** 0.5)


def test_no_row_has_no_figures() -> None:
    with pytest.raises(DataError, match="as many answers as targets, at least one; got 0, 0"):
        REGRESSION.measure(np.empty((0, 1), np.float32), np.empty(0, np.float32))


def test_the_range_travels_with_the_name_and_through_processes() -> None:
    task = task_named("regression:1.0:5.0")
    assert task.range == STARS and task.spec == "regression:1.0:5.0" and task.name == REGRESSION.spec == "regression"
    assert task_named(task.spec) is task, "a process that is many devices in turn compares them"
    again = pickle.loads(pickle.dumps(task))
    assert again.spec == task.spec and again.targets(("2",), ()).tolist() == [2.0]


@pytest.mark.parametrize("name", ["regression:5:1", "regression:1", "regression:a:b", "classification:1:5"])
def test_ranges_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"range|below"):
        task_named(name)


def test_a_range_from_values_is_two_deviations_to_either_side() -> None:
    assert Range.of(np.array([1.0, 3.0])) == Range(low=0.0, high=4.0)
    assert STARS.unit == 1.0 and STARS.centre == 3.0


def test_a_regressor_has_one_output_and_a_config_that_says_so() -> None:
    assert REGRESSION.outputs(()) == 1 and REGRESSION.config_keys(())["problem_type"] == "regression"
