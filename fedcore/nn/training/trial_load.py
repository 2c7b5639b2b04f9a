"""Whether a base model can be loaded here at all: its tokenizer, and its first layer, as a device will."""

from collections.abc import Sequence
from pathlib import Path

import torch

from fedcore.core.boundary import Boundary
from fedcore.core.errors import ModelError
from fedcore.core.tasks.table import task_named
from fedcore.nn.model.load import load_classifier
from fedcore.nn.training.batches import collate, encode_for

TEXTS = (("a good film",), ("x",))  # of which every tokenizer makes something
TOKENS = 8
_UNKNOWN = ("0", "1")  # labels of a run whose labels the first device will bring


def check_loadable(folder: Path, *, labels: Sequence[str], head: str, dtype: str, task: str = "") -> None:
    """Load the tokenizer and the first layer of the model in `folder`, and let it answer; takes little memory.

    `labels`, `head` and `dtype` are as in `load_classifier`, `task` is a task's name; a head is not tried before labels
    are known. Raises ModelError with the remedy.
    """
    rows = encode_for(folder, TEXTS, [0] * len(TEXTS), TOKENS)
    kind = task_named(task)
    known = (tuple(labels), head) if labels or not kind.labelled else (_UNKNOWN, "auto")
    classifier = load_classifier(folder, labels=known[0], head=known[1], dtype=dtype, trial=True, task=kind)
    batch = collate(rows, range(len(rows)))
    del batch["labels"]
    with Boundary(ModelError, f"{folder}: the model cannot be run"), torch.no_grad():
        classifier.model(**batch)
