"""Classification: a text, or a pair of texts, has one of an agreed list of labels."""

from fedcore.core.data.figures import SHARE, Figure
from fedcore.core.data.metrics import measure
from fedcore.core.tasks.task import Task

CLASSIFICATION = Task(
    name="classification",
    figures=(
        Figure(name="accuracy", title="accuracy", unit=SHARE, shown="always"),
        Figure(name="auc", title="AUC", shown="always"),
        Figure(name="macro_f1", title="macro-F1"),
        Figure(name="loss", title="loss", unit="nats", higher_is_better=False, shown="tables"),
    ),
    measure=measure,
    loss="cross-entropy",
)
