"""What an evaluator does with torch: measure on held-back rows, export class models, train the reference."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.floors import constant_floors, find_floors, with_majority
from fedcore.client.evaluation.thresholds import set_thresholds
from fedcore.client.evaluation.written_answers import answer_figures, samples_of
from fedcore.client.training.trainer import ModelSource
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.data.figures import Metrics
from fedcore.core.data.floors import Floors
from fedcore.core.data.label_offsets import rows_apart
from fedcore.core.errors import DataError
from fedcore.core.learning_rate.schedule import half_cosine
from fedcore.core.model.adapter import AdapterSpec, restrict
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.seeds import derive_seed
from fedcore.core.tasks.task import Targets, Task
from fedcore.nn.encoding.answering import answers_to, asked
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.export import export_classifier
from fedcore.nn.model.lora import attach, load_adapter, merge
from fedcore.nn.model.shift import add_shift
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import Batch, EncodedRows, collate
from fedcore.nn.training.evaluate import evaluate, predict
from fedcore.nn.training.latency import interleaved_latency
from fedcore.nn.training.moments import Moments
from fedcore.nn.training.train import TrainingAids, train
from fedcore.protos.values import ExportOutcome, ReferenceTask

EVALUATION_BATCH = 32
LATENCY_ROWS = 16
LATENCY_REPEATS, LATENCY_S = 15, 10.0  # repeats at most, and seconds of measured passes after which none begins
PROBE_ROWS = 8
PROBE_CHATS, PROBE_TOKENS = 2, 12  # 4 MiB of logits with 49,152 words
REFERENCE_PARTS = 10  # stretches of one learning rate

Adapter = Mapping[str, NDArray[np.float32]]  # as downloaded: with the base shift, where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """A model's predictions on held-back rows, and what a model that writes answered to some of them."""

    logits: NDArray[np.float32]  # (rows, classes), or what the task has for outputs
    labels: Targets  # (rows,)
    parameters: int  # of the model with its head
    written: "Written | None" = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Questions, a model's answers to them and the right ones."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]


@dataclass(slots=True, kw_only=True)
class ModelEvaluator:
    """Measures on `test` rows and trains references on `train` rows.

    Models are made for a task and dropped: an evaluator is idle most of the time.
    """

    source: ModelSource
    test: Rows
    train: Rows
    _test_rows: EncodedRows | None = None
    _floors: Floors | None = None

    @property
    def task(self) -> Task:
        """The run's task."""
        return self.source.task

    def evaluate(
        self, adapter: Adapter, rows: int, scale: float, keep_set: KeepSet | None = None, *, offsets: bool = False
    ) -> Metrics:
        """Measure the adapter on the model pruned to `keep_set` (None: the dense one).

        It is measured on `rows` test rows spread evenly over all (0: all), with label `offsets` as `export` finds them.
        """
        classifier = with_adapter(self.source, adapter, lambda dense: keep_set or KeepSet.full(dense), scale)
        if not rows:  # the end of a run: no device of this machine trains any more
            use_all_cores()
        offsets = bool(offsets and self._with_thresholds(classifier))
        return self._measured(classifier, self._test_subset(rows, less_apart=offsets))

    def floors(self, majority: str) -> Floors | None:
        """Return the floors of all test rows; see `find_floors`. Words are learned once, whatever the majority.

        Under a task without labels, the floor of one answer for every row, the best for what the evaluator knows; None
        where there is no such answer.
        """
        if not self.task.labelled:
            return constant_floors(self.test, self.train, self.task)
        if self._floors is None:
            self._floors = find_floors(self.test, self.train, self.source.labels, majority)
        return with_majority(self._floors, self.test, self.source.labels, majority)

    def predict(self, adapter: Adapter, keep_set: KeepSet, rows: int, scale: float) -> Predictions:
        """Return what the adapter on the model pruned to `keep_set` predicts for `rows` test rows (0: all)."""
        exact = self.source.dtype == "float32"  # merged into bfloat16 weights, an adapter would be rounded away
        make = merged_model if exact else with_adapter
        classifier, subset = make(self.source, adapter, lambda _: keep_set, scale), self._test_subset(rows)
        return Predictions(
            logits=predict(classifier, subset, EVALUATION_BATCH),
            labels=np.asarray(subset.labels),
            parameters=classifier.count_parameters(),
            written=self._written(classifier, subset),
        )

    def export(
        self, adapter: Adapter, keep_set: KeepSet, scale: float, out: Path, *, offsets: bool = False
    ) -> ExportOutcome:
        """Merge the adapter into a model pruned to `keep_set`, write it to `out`, measure it; `files` stays empty.

        With `offsets`, some test rows set the thresholds between labels first, and figures are of the others
        (fedcore.core.data.label_offsets).
        """
        use_all_cores()
        dense = merged_model(self.source, adapter, KeepSet.full, scale)
        pruned = merged_model(self.source, adapter, lambda _: keep_set, scale)
        found = self._with_thresholds(pruned) if offsets else ()
        rows = self._test_subset(0, less_apart=bool(found))
        template = self.source.options.template
        report = export_classifier(pruned, out, self.source.folder, _probe(rows), template=template)
        batch = collate(rows, np.arange(min(LATENCY_ROWS, len(rows))))
        latency = interleaved_latency({"pruned": pruned, "dense": dense}, batch, LATENCY_REPEATS, most_s=LATENCY_S)
        return ExportOutcome(
            metrics=self._measured(pruned, rows),
            files=(),
            parameters=report.parameters,
            dense_parameters=dense.count_parameters(),
            latency_s=latency["pruned"],
            dense_latency_s=latency["dense"],
            dense_size_bytes=sum(parameter.numel() * 4 for parameter in dense.model.parameters()),
            label_offsets=found,
        )

    def reference(self, adapter: Adapter, task: ReferenceTask) -> Metrics:
        """Train centralised LoRA on the pooled rows, as many steps as the fleet took, and measure it."""
        if not len(self.train):
            raise DataError("the evaluator has no training rows; start it with the run's [data] train")
        use_all_cores()
        narrow = {
            name: value[: task.rank] if name.endswith(".A") else value[:, : task.rank] if name.endswith(".B") else value
            for name, value in adapter.items()
        }
        classifier = with_adapter(self.source, narrow, KeepSet.full, task.lora_scale)
        rows = self.source.encode(self.train)
        moments: Moments = {}
        for part in range(REFERENCE_PARTS):
            steps = task.steps * (part + 1) // REFERENCE_PARTS - task.steps * part // REFERENCE_PARTS
            if steps:
                spec, seed = _reference_spec(task, part), derive_seed(task.seed, "reference", part)
                aids = TrainingAids(moments=moments)
                moments = train(classifier, rows, spec=spec, steps=steps, seed=seed, aids=aids).moments
        return self._measured(classifier, self._test_subset(0))

    def _measured(self, classifier: Classifier, rows: EncodedRows) -> Metrics:
        """Return the figures of a model on `rows`; of one that writes, also those of its answers to a few of them."""
        metrics, written = evaluate(classifier, rows, EVALUATION_BATCH), self._written(classifier, rows)
        if written is None:
            return metrics
        figures = answer_figures(written.answers, written.references, metric=self.source.options.metric)
        return replace(
            metrics,
            figures={**metrics.figures, **figures},
            samples=samples_of(written.prompts, written.answers, written.references),
        )

    def _written(self, classifier: Classifier, rows: EncodedRows) -> Written | None:
        """Return the answers to up to `generated_rows` of `rows`; None where none of them asks anything."""
        options = self.source.options
        chosen = asked(rows, options.generated_rows)
        if not len(chosen):
            return None
        questions = [rows.questions[row] for row in chosen]
        return Written(
            prompts=tuple(question.prompt for question in questions),
            answers=tuple(answers_to(classifier, rows, chosen, tokens=options.answer_tokens)),
            references=tuple(tuple(question.references) for question in questions),
        )

    def _with_thresholds(self, classifier: Classifier) -> tuple[float, ...]:
        """Set a classifier's thresholds by the rows that are set aside; return what was added, () for nothing."""
        if not self.task.labelled:
            return ()
        rows = self._test_subset(0)
        (apart,) = np.nonzero(rows_apart(np.asarray(rows.labels)))
        if len(np.unique(np.asarray(rows.labels)[apart])) < 2:
            return ()  # too few rows
        return set_thresholds(classifier, rows.select(apart), EVALUATION_BATCH)

    def _test_subset(self, rows: int, *, less_apart: bool = False) -> EncodedRows:
        """Return `rows` test rows spread evenly from the first to the last; all for 0.

        `less_apart`: without those that set thresholds.
        """
        if self._test_rows is None:
            self._test_rows = self.source.encode(self.test)
        every = self._test_rows
        if less_apart:
            every = every.select(np.nonzero(~rows_apart(np.asarray(every.labels)))[0])
        if rows <= 0 or rows >= len(every):
            return every
        return every.select(np.linspace(0, len(every) - 1, rows).round().astype(np.int64))


def _probe(rows: EncodedRows) -> Batch:
    """Return inputs of a few rows; few tokens where the model answers with all its words after every one of them."""
    probe = collate(rows, np.arange(min(PROBE_ROWS, len(rows))))
    del probe["labels"]
    if not rows.token_targets:
        return probe
    return {name: value[:PROBE_CHATS, :PROBE_TOKENS].contiguous() for name, value in probe.items()}


def _reference_spec(task: ReferenceTask, part: int) -> TrainingSpec:
    """Return a spec whose rate falls by half a cosine to a tenth over the parts, as a fleet's does over its rounds."""
    share = half_cosine(part / (REFERENCE_PARTS - 1), 0.1)
    return TrainingSpec(
        batch_size=task.batch_size,
        learning_rate=task.learning_rate * share,
        weight_decay=task.weight_decay,
        lora_scale=task.lora_scale,
        importance="taylor",
        keep_optimizer=True,
        codec="identity",
    )


def use_all_cores() -> None:
    """Let torch use every core that this process may run on; a fleet gives each process one while devices train."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(torch.get_num_threads(), mine))


def with_adapter(
    source: ModelSource, adapter: Adapter, keep: Callable[[Geometry], KeepSet], scale: float
) -> Classifier:
    """Return the base model, shifted, pruned to a keep-set, with the global adapter attached as far as it reaches."""
    classifier = source.load()
    add_shift(classifier, adapter)
    keep_set = keep(classifier.geometry)
    if keep_set != classifier.keep_set:
        shrink(classifier, keep_set)
    rank = next(value.shape[0] for name, value in adapter.items() if name.endswith(".A"))
    head = tuple(sorted((name, value.shape) for name, value in adapter.items() if name.startswith("head.")))
    spec = AdapterSpec(geometry=classifier.geometry, rank=rank, targets=source.targets, head=head)
    attach(classifier, rank=rank, scale=scale, targets=source.targets)
    load_adapter(classifier, restrict(spec, adapter, rank=rank, keep_set=keep_set))
    return classifier


def merged_model(
    source: ModelSource, adapter: Adapter, keep: Callable[[Geometry], KeepSet], scale: float
) -> Classifier:
    """Like `with_adapter`, with the adapter merged into the weights."""
    classifier = with_adapter(source, adapter, keep, scale)
    merge(classifier)
    return classifier
