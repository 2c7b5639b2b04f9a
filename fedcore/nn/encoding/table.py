"""Every encoder, by the name that a task gives it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedcore.core.tasks.options import TaskOptions
from fedcore.core.tasks.task import Targets
from fedcore.nn.encoding.dialogues import encode_dialogues
from fedcore.nn.training.batches import EncodedRows, encode_for

Texts = Sequence[tuple[str, ...]]
Encoder = Callable[[Path, Texts, Sequence[str], Targets, int, TaskOptions], EncodedRows]


def _texts(
    folder: Path, texts: Texts, column: Sequence[str], targets: Targets, max_length: int, options: TaskOptions
) -> EncodedRows:
    return encode_for(folder, texts, targets, max_length)


def _dialogues(
    folder: Path, texts: Texts, column: Sequence[str], targets: Targets, max_length: int, options: TaskOptions
) -> EncodedRows:
    rows = list(zip((row[0] for row in texts), column, strict=True))
    return encode_dialogues(folder, rows, max_length=max_length, template=options.template)


# Each takes the folder of the model, the rows' texts and target column, the targets, the longest row and the settings.
ENCODERS: Mapping[str, Encoder] = {"texts": _texts, "dialogues": _dialogues}
