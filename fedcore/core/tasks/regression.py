"""Regression: a text, or a pair of texts, has one number, such as a price, a grade or how alike two texts are.

A model's output is a target in units of its range: a quarter of it, so that outputs of typical rows differ by about 1
whatever is measured, and one learning rate serves prices and grades. An export's head is multiplied by that unit and
answers in the target's own. The loss is the mean squared error in those units.
"""

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.correlations import pearson, spearman
from fedcore.core.data.figures import CORRELATION, Figure, Metrics
from fedcore.core.errors import DataError
from fedcore.core.tasks.task import Constant, Range, Targets, Task

LARGEST = float(np.finfo(np.float32).max)
FIGURES = (
    # The headline is an order: it needs no unit, is the same for prices and grades, and 0 without any knowledge. What
    # it cannot see, whether the numbers themselves are right, the error beside it tells.
    Figure(name="spearman", title="Spearman", unit=CORRELATION, shown="always"),
    Figure(name="rmse", title="RMSE", higher_is_better=False, shown="always"),
    Figure(name="pearson", title="Pearson", unit=CORRELATION),
    Figure(name="mae", title="mean error", higher_is_better=False),
    Figure(name="loss", title="loss", higher_is_better=False, shown="tables"),
)


def fault(text: str) -> str:
    """Return why a cell is no target and what to do; empty for a finite number that float32 has."""
    try:
        value = float(text) if "_" not in text else math.nan  # Python reads 1_000; no table means that
    except ValueError:
        comma = f"; write {text.replace(',', '.')}" if _is_number(text.replace(",", ".")) else ""
        return f"the target {text!r} is no number{comma or '; write a number such as 3.5, or drop the row'}"
    if not abs(value) <= LARGEST:
        return f"the target {text!r} is no finite number; write a number such as 3.5, or drop the row"
    return ""


@cache  # equal ranges give the same value, which a process that is many devices in turn relies on
def regression(measured: Range | None) -> Task:
    """Return the task for targets that mostly lie in a range; without one, an output is the target itself."""
    unit = 1.0 if measured is None else measured.unit
    return Task(
        name="regression",
        figures=FIGURES,
        labelled=False,
        targets=partial(_targets, unit),
        target_type=np.float32,
        outputs=_outputs,
        model_class="AutoModelForSequenceClassification",
        config_keys=_config_keys,
        measure=partial(_measure, unit),
        loss="squared-error",
        fault=fault,
        constant=partial(_constant, unit),
        over=regression,
        range=measured,
    )


def _targets(unit: float, column: Sequence[str], labels: Sequence[str]) -> Targets:
    """Return targets in units, float32; raises DataError for the first that is none."""
    wrong = next((why for text in column if (why := fault(text))), "")
    if wrong:
        raise DataError(wrong)
    return (np.array([float(text) for text in column], dtype=np.float64) / unit).astype(np.float32)


def _measure(unit: float, outputs: NDArray[np.float32], truth: Targets) -> Metrics:
    """Return every figure of outputs (rows, 1) against targets (rows,), both in units; errors are in the target's."""
    answers, right = np.asarray(outputs, dtype=np.float64).reshape(len(outputs)), np.asarray(truth, dtype=np.float64)
    if len(right) == 0 or len(answers) != len(right):
        raise DataError(f"figures need as many answers as targets, at least one; got {len(answers)}, {len(right)}")
    loss = float(np.mean(np.square(answers - right)))
    return Metrics(
        figures={
            "spearman": spearman(answers, right),
            "rmse": math.sqrt(loss) * unit,
            "pearson": pearson(answers, right),
            "mae": float(np.mean(np.abs(answers - right))) * unit,
            "loss": loss,
        },
        rows=len(right),
    )


def _constant(unit: float, known: Targets) -> Constant:
    mean = float(np.mean(known, dtype=np.float64))
    return Constant(name=f"{mean * unit:.4g}", outputs=np.array([mean], dtype=np.float32))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _config_keys(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": {0: "score"}, "label2id": {"score": 0}, "problem_type": "regression"}


def _outputs(labels: Sequence[str]) -> int:
    return 1


REGRESSION = regression(None)
