"""Classification: a text, or a pair of texts, has one of an agreed list of labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedcore.core.data.figures import SHARE, Figure
from fedcore.core.data.metrics import measure
from fedcore.core.errors import DataError, ModelError
from fedcore.core.tasks.task import Targets, Task


def _targets(column: Sequence[str], labels: Sequence[str]) -> Targets:
    """Return each row's position in the agreed list, int64; raises DataError for a label outside it."""
    positions = {label: position for position, label in enumerate(labels)}
    strange = sorted(set(column) - set(positions))
    if strange:
        raise DataError(f"label {strange[0]!r} is not one of the agreed labels {list(labels)}; add it to data.labels")
    return np.array([positions[label] for label in column], dtype=np.int64)


def _outputs(labels: Sequence[str]) -> int:
    if len(labels) < 2:
        raise ModelError(f"a classifier needs at least two labels, got {len(labels)}; check [data] labels")
    return len(labels)


def _config_keys(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: row for row, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


CLASSIFICATION = Task(
    name="classification",
    figures=(
        Figure(name="accuracy", title="accuracy", unit=SHARE, shown="always"),
        Figure(name="auc", title="AUC", shown="always"),
        Figure(name="macro_f1", title="macro-F1"),
        Figure(name="loss", title="loss", unit="nats", higher_is_better=False, shown="tables"),
    ),
    labelled=True,
    targets=_targets,
    target_type=np.int64,
    outputs=_outputs,
    model_class="AutoModelForSequenceClassification",
    config_keys=_config_keys,
    measure=measure,
    loss="cross-entropy",
)
