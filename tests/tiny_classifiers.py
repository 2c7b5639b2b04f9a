"""Tiny random classifiers, loaded as a device loads them, and rows for them to learn."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.training.batches import EncodedRows
from tests.tiny_models import tiny_model

FAMILIES = ("bert", "llama-gqa", "llama-mqa")  # one per shape of attention
PAD = 3  # id of [SEP], with which the Llama-like tokenizer pads
SPEC = TrainingSpec(
    batch_size=4,
    learning_rate=1e-3,
    weight_decay=0.1,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=True,
    codec="identity",
)


@cache
def _folder(kind: str) -> tuple[tempfile.TemporaryDirectory[str], Path]:
    kept = tempfile.TemporaryDirectory()  # removed when the interpreter ends
    return kept, tiny_model(Path(kept.name), kind)


def tiny_classifier(kind: str, labels: tuple[str, ...] = ("no", "yes")) -> Classifier:
    """Return a fresh classifier of `kind` (a key of tiny_models.KINDS), the same on every call."""
    return load_classifier(_folder(kind)[1], labels=labels)


def learnable_rows(count: int, classes: int = 2) -> EncodedRows:
    """Return rows whose label shows in their tokens: class y draws its ids from 4 + 12y to 13 + 12y."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % classes
    token_ids = tuple(tuple(int(i) for i in rng.integers(4, 14, rng.integers(3, 9)) + 12 * y) for y in labels)
    return EncodedRows(token_ids=token_ids, segment_ids=(), labels=labels, pad_id=PAD)
