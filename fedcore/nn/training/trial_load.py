"""Whether a base model can be loaded here at all: its tokenizer, and its first layer, as a device will."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fedcore.core.accelerators import CPU
from fedcore.core.boundary import Boundary
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.cost.training_step import StepMode, StepShape
from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.precision import FLOAT32
from fedcore.core.tasks.table import task_named
from fedcore.nn.accelerator.memory import counts_peaks, guarded, release
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import DTYPES, load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.model.model_folder import read_config
from fedcore.nn.training.batches import collate, encode_for
from fedcore.nn.training.step_memory import measure_step_memory

TEXTS = (("a good film",), ("x",))  # of which every tokenizer makes something
TOKENS = 8
TRIAL_ROWS, TRIAL_RANK = 8, 8
_UNKNOWN = ("0", "1")  # labels of a run whose labels the first device will bring
_TRIAL_SPEC = TrainingSpec(
    batch_size=TRIAL_ROWS,
    learning_rate=0.0,
    weight_decay=0.0,
    lora_scale=1.0,
    importance="magnitude",
    keep_optimizer=False,
    codec="identity",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTrial:
    """Which model is tried and where: as in `load_classifier`; `task` is a task's name."""

    folder: Path
    labels: Sequence[str]
    head: str
    dtype: str
    task: str = ""
    device: str = CPU
    precision: str = FLOAT32

    def load(self) -> Classifier:
        """Return the model's first layer; a head is not tried before labels are known."""
        kind = task_named(self.task)
        labels, head = (self.labels, self.head) if self.labels or not kind.labelled else (_UNKNOWN, "auto")
        return load_classifier(
            self.folder,
            labels=tuple(labels),
            head=head,
            dtype=self.dtype,
            trial=True,
            task=kind,
            device=self.device,
            precision=self.precision,
        )


def check_loadable(folder: Path, *, labels: Sequence[str], head: str, dtype: str, task: str = "") -> None:
    """Load the tokenizer and the first layer of the model in `folder`, and let it answer; takes little memory.

    Arguments are as in `LoadTrial`. Raises ModelError with the remedy.
    """
    rows = encode_for(folder, TEXTS, [0] * len(TEXTS), TOKENS)
    classifier = LoadTrial(folder=folder, labels=labels, head=head, dtype=dtype, task=task).load()
    batch = collate(rows, range(len(rows)))
    del batch["labels"]
    with Boundary(ModelError, f"{folder}: the model cannot be run"), torch.no_grad():
        classifier.model(**batch)


def memory_scale(trial: LoadTrial, max_length: int) -> float:
    """Return measured / modelled memory of a training step on an accelerator, from steps of the first layer.

    What grows with the tokens is compared, and carried over to all layers; weights take what they take. 0 on the CPU,
    whose memory the model was made by, and where the allocator counts no peak. Raises OutOfMemory with figures where
    not even that fits.
    """
    if not counts_peaks(torch.device(trial.device)):
        return 0.0
    with guarded(trial.device, "a trial of one layer"):
        classifier = trial.load()
        attach(classifier, rank=TRIAL_RANK, scale=1.0, targets=classifier.geometry.modules)
        measured = measure_step_memory(classifier, _TRIAL_SPEC, rows=TRIAL_ROWS, width=max_length)
    whole_geometry = geometry_from_config(read_config(trial.folder))
    one, whole = (_shape(trial, geometry, max_length) for geometry in (classifier.geometry, whole_geometry))
    outputs = classifier.outputs
    standing = replace(whole, batch_size=0).memory_mb(outputs)
    growing = whole.memory_mb(outputs) - standing
    modelled = (one.memory_mb(outputs) - replace(one, batch_size=0).memory_mb(outputs)) / one.tokens
    release(trial.device)
    return (standing + growing * measured.token_mb / modelled) / (standing + growing)


def _shape(trial: LoadTrial, geometry: Geometry, max_length: int) -> StepShape:
    return StepShape(
        geometry=geometry,
        kept=geometry.dense,
        rank=TRIAL_RANK,
        targets=geometry.modules,
        batch_size=TRIAL_ROWS,
        max_length=max_length,
        dtype_bytes=DTYPES[trial.dtype].itemsize,
        mode=StepMode(trial.precision),
    )
