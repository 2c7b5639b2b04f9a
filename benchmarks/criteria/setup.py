"""The model, the rows and the short training that all criteria share."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedcore.client.data.rows import Rows, label_ids, label_list
from fedcore.client.data.shards import test_rows, training_rows
from fedcore.client.options import DataOptions
from fedcore.core.config.tables import DataConfig
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.seeds import derive_seed, generator
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.training.batches import Batch, EncodedRows, collate, encode_for, epoch_batches
from fedcore.nn.training.scorer import Scorer
from fedcore.nn.training.train import TrainingAids, train
from fedcore.storage.models.model_source import model_folder

MODEL, DATA = "fetch:minilm", DataConfig(train="fetch:movies")
MAX_LENGTH = 48
BATCH = 16
LEARNING_RATE = 1e-3
SPEC = TrainingSpec(
    batch_size=BATCH,
    learning_rate=LEARNING_RATE,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="taylor",
    keep_optimizer=True,
    codec="identity",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A base model on disk, and tokenised rows."""

    folder: Path
    labels: tuple[str, ...]
    dtype: str  # of the frozen base weights
    train: EncodedRows
    test: EncodedRows

    def untrained(self, *, rank: int, seed: int) -> Classifier:
        """Return the base model with fresh adapters on every prunable layer, and a fresh head."""
        classifier = load_classifier(self.folder, labels=self.labels, head="auto", dtype=self.dtype)
        attach(classifier, rank=rank, scale=SPEC.lora_scale, targets=classifier.geometry.modules, seed=seed)
        return classifier

    def batches(self, count: int, *, seed: int) -> list[Batch]:
        """Return training batches drawn by `seed`."""
        stream = epoch_batches(self.train, BATCH, generator(seed, "calibration"))
        return [collate(self.train, next(stream)) for _ in range(count)]

    def tune(self, classifier: Classifier, *, steps: int, seed: int, part: str, scorer: Scorer | None = None) -> None:
        """Train adapters and head for `steps` steps, in place; `scorer` sees every one of them."""
        if steps:
            aids = TrainingAids(scorer=scorer)
            train(classifier, self.train, spec=SPEC, steps=steps, seed=derive_seed(seed, part), aids=aids)


def load_setup(*, test_count: int, dtype: str) -> Setup:
    """Read model and rows (`fedcore fetch minilm movies`); `test_count` held-back rows, spread over all."""
    options = DataOptions(
        train=DATA.train, test=None, text=DATA.text_columns, label=DATA.label, test_fraction=DATA.test_fraction
    )
    folder, held_back, own = model_folder(MODEL), test_rows(options), training_rows(options)
    labels = label_list(own)
    every = np.linspace(0, len(held_back) - 1, min(test_count, len(held_back))).round().astype(np.int64)
    return Setup(
        folder=folder,
        labels=labels,
        dtype=dtype,
        train=_encoded(folder, own, labels),
        test=_encoded(folder, held_back.select(every), labels),
    )


def fork(classifier: Classifier) -> Classifier:
    """Return a model of its own with the same values; what neither changes in place is shared.

    Cutting makes new parameters; training and compensation change factors, heads and biases in place.
    """
    changed = (".lora_", "classifier.", "score.", ".bias")
    named = [*classifier.model.named_parameters(), *classifier.model.named_buffers()]
    shared = {id(tensor): tensor for name, tensor in named if not any(mark in f".{name}" for mark in changed)}
    return copy.deepcopy(classifier, shared)


def _encoded(folder: Path, rows: Rows, labels: Sequence[str]) -> EncodedRows:
    return encode_for(folder, rows.texts, label_ids(rows, tuple(labels)).tolist(), MAX_LENGTH)


Say = Callable[[str], None]
