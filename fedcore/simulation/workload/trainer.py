"""Training of virtual devices with torch; the model and its last pruned variants stay loaded, rows are encoded once.

All variants share the parameters that a cut leaves alone with the base model. A base shift changes the base weights, so
a new shift drops base and variants and loads them again.
"""

import copy
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.client.training.trainer import (
    Arrays,
    ModelSource,
    local_round,
    own_label_plan,
    rate_trial,
    resumed_moments,
    shift_id,
)
from fedcore.client.training.training_state import TrainingState
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.cost.training_step import StepMode
from fedcore.core.data.partition import Indices
from fedcore.core.errors import FedcoreError, OutOfMemory
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.quantization import NONE
from fedcore.core.model.trained_part import TrainedPart
from fedcore.core.precision import FLOAT16
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.nn.accelerator.memory import guarded, release
from fedcore.nn.batched.schedule import schedule
from fedcore.nn.batched.train import VirtualTask, train_batched
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import DTYPES
from fedcore.nn.model.lora import attach, load_adapter
from fedcore.nn.model.quantized import round_weights
from fedcore.nn.model.shift import add_shift
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.moments import Holding
from fedcore.nn.training.step_memory import StepMemory, measure_step_memory
from fedcore.nn.training.teacher import Teacher, answers
from fedcore.nn.training.train import TrainResult
from fedcore.protos.values import WireAssignment
from fedcore.simulation.workload.step_estimate import Cut, ModelKind, estimated
from fedcore.simulation.workload.workload import Failure

MOST_VARIANTS = 4  # pruned models kept beside the base model


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One virtual device's work: its assignment, the positions of its rows, and the state it kept."""

    assignment: WireAssignment
    rows: Indices
    state: TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Devices to train from the adapter `before`; their assignments agree in all but seed and labels.

    `shift` is the base shift under the adapter, empty without one.
    """

    keep_set: KeepSet
    before: Arrays
    shift: Arrays
    tasks: tuple[Task, ...]
    batched: bool
    dense: Arrays | None = None  # the adapter of the dense model, for the teacher; None without distillation


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """By device: metrics or the reason why it failed, group scores, the row of its increments, and its next state."""

    metrics: tuple[TrainingMetrics | Failure, ...]
    scores: tuple[GroupScores | None, ...]
    increments: Arrays  # name -> (devices, *shape)
    states: tuple[TrainingState, ...]


@dataclass(slots=True, kw_only=True)
class VirtualTrainer:
    """Carries out orders, one at a time, on `threads` torch threads (None: torch's default)."""

    source: ModelSource
    rows: EncodedRows  # of all devices
    threads: int | None
    texts: EncodedRows | None = None  # general ones, which every device has
    _base: Classifier | None = None
    _shift: str = ""  # id of the base shift in the base weights
    _variants: "OrderedDict[str, Classifier]" = field(default_factory=OrderedDict)
    _memory: dict[tuple[int, TrainedPart, bool], StepMemory] = field(default_factory=dict)  # of the dense model

    def run(self, order: Order) -> Answer:
        """Train every device of `order`."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            with guarded(self.source.device, "preparing the model"):
                self._settle_base(order)
                classifier = self._variant(order.keep_set, order.tasks[0].assignment)
                teacher = self._teacher(order)
        except OutOfMemory as error:
            self.release()
            release(self.source.device)
            return _failed(order, error)
        if _together(order) and classifier.precision != FLOAT16:  # whose factor of the loss is a device's own
            try:
                with guarded(self.source.device, "training devices together"):
                    return self._batched(classifier, order, teacher)
            except OutOfMemory:  # there may be enough for one device at a time
                pass
            release(self.source.device)
        return self._one_by_one(classifier, order, teacher)

    def release(self) -> None:
        """Let go of every model; the next order loads them anew."""
        self._base, self._shift = None, ""
        self._variants.clear()

    def _one_by_one(self, classifier: Classifier, order: Order, teacher: Teacher | None) -> Answer:
        metrics: list[TrainingMetrics | Failure] = []
        scores: list[GroupScores | None] = []
        states: list[TrainingState] = []
        increments = _empty(order)
        for row, task in enumerate(order.tasks):
            load_adapter(classifier, order.before)
            try:
                with guarded(self.source.device, "training"):
                    local = local_round(
                        classifier,
                        self.rows.select(task.rows),
                        task.assignment,
                        order.before,
                        task.state,
                        teacher=teacher,
                        texts=self.texts,
                    )
            except FedcoreError as error:
                metrics.append(Failure.of(error))
                scores.append(None)
                states.append(task.state)
                release(self.source.device)
                continue
            metrics.append(local.result.metrics)
            scores.append(local.result.scores)
            states.append(local.state)
            for name, value in increments.items():
                value[row] = local.increment[name]
        return Answer(metrics=tuple(metrics), scores=tuple(scores), increments=increments, states=tuple(states))

    def _batched(self, classifier: Classifier, order: Order, teacher: Teacher | None) -> Answer:
        assignment = order.tasks[0].assignment
        holding = Holding(keep_set=order.keep_set, rank=assignment.arm.rank)
        tasks = [self._virtual(task, classifier, holding, teacher) for task in order.tasks]
        load_adapter(classifier, order.before)
        trials = [
            rate_trial(classifier, own.rows, task.assignment, order.before, labels=own.labels)
            for own, task in zip(tasks, order.tasks, strict=True)
        ]
        trained = train_batched(
            classifier,
            order.before,
            tasks,
            spec=assignment.training,
            steps=assignment.local_steps,
            score=assignment.score,
            keep_moments=assignment.training.keep_optimizer,
            memory=self._step_memory(order),
        )
        metrics: list[TrainingMetrics | Failure] = []
        scores: list[GroupScores | None] = []
        states: list[TrainingState] = []
        for task, losses, result, groups in zip(order.tasks, trials, trained.results, trained.smoothed, strict=True):
            if isinstance(result, TrainResult):
                metrics.append(replace(result.metrics, trial_losses=losses))
                scores.append(result.scores)
                states.append(
                    TrainingState(
                        basis=assignment.basis,
                        holding=holding,
                        moments=result.moments,
                        groups=groups or task.state.groups,
                    )
                )
            else:
                metrics.append(Failure.of(result))
                scores.append(None)
                states.append(task.state)
        increments = dict(trained.increments)
        return Answer(metrics=tuple(metrics), scores=tuple(scores), increments=increments, states=tuple(states))

    def _virtual(self, task: Task, classifier: Classifier, holding: Holding, teacher: Teacher | None) -> VirtualTask:
        rows, assignment = self.rows.select(task.rows), task.assignment
        labels = own_label_plan(assignment, rows)
        answers_of_teacher = None
        if teacher is not None:
            size, steps = assignment.training.batch_size, assignment.local_steps
            plan = schedule(rows, assignment.seed, batch_size=size, steps=steps, draws=labels.draws)
            answers_of_teacher = teacher(rows, plan.trained_rows)
        return VirtualTask(
            rows=rows,
            seed=task.assignment.seed,
            labels=labels,
            moments=resumed_moments(task.assignment, task.state, classifier.geometry, holding),
            smoothed=task.state.groups,
            teacher=answers_of_teacher,
        )

    def _teacher(self, order: Order) -> Teacher | None:
        """Return the teacher of an order, the dense model in batches of a device's size; None without distillation."""
        if order.dense is None:
            return None
        assignment = order.tasks[0].assignment
        dense = self._variant(KeepSet.full(self._loaded().geometry), assignment, form=NONE)
        load_adapter(dense, order.dense)
        return partial(answers, dense, batch_size=assignment.training.batch_size)

    def _step_memory(self, order: Order) -> StepMemory:
        """Return the memory of one device's step; the dense model is measured once per rank and trained part."""
        assignment, base = order.tasks[0].assignment, self._loaded()
        rank, size, trains = assignment.arm.rank, assignment.training.batch_size, assignment.training.trains
        key = rank, trains, assignment.training.checkpointing
        if key not in self._memory:
            dense = self._cut(KeepSet.full(base.geometry), assignment, NONE)
            self._memory[key] = measure_step_memory(dense, assignment.training, rows=size, width=self.source.max_length)
        kind = ModelKind(
            geometry=base.geometry,
            targets=self.source.targets,
            dtype_bytes=DTYPES[self.source.dtype].itemsize,
            num_labels=base.outputs,
            mode=StepMode(self.source.precision, assignment.training.checkpointing),
        )
        cut = Cut(counts=order.keep_set.counts, quantize=assignment.training.quantize)
        return estimated(self._memory[key], kind, cut=cut, rank=rank, trains=trains)

    def _variant(self, keep_set: KeepSet, assignment: WireAssignment, form: str | None = None) -> Classifier:
        """Return the model cut to a keep-set, with adapters; the last MOST_VARIANTS stay cached.

        `form` is that of its weights, by default the assignment's.
        """
        form = assignment.training.quantize if form is None else form
        key = f"{keep_set.blob_id} {form}"
        if key not in self._variants:
            self._variants[key] = self._cut(keep_set, assignment, form)
            while len(self._variants) > MOST_VARIANTS:
                self._variants.popitem(last=False)
        self._variants.move_to_end(key)
        return self._variants[key]

    def _cut(self, keep_set: KeepSet, assignment: WireAssignment, form: str) -> Classifier:
        base = self._loaded()
        shared = {id(tensor): tensor for tensor in (*base.model.parameters(), *base.model.buffers())}
        variant = copy.deepcopy(base, shared)  # a cut makes new parameters; all others are shared with the base
        if keep_set != variant.keep_set:
            shrink(variant, keep_set)
        round_weights(variant, form)  # a real device packs them; passes of many devices need them as floats
        attach(variant, rank=assignment.arm.rank, scale=assignment.training.lora_scale, targets=self.source.targets)
        return variant

    def _settle_base(self, order: Order) -> None:
        """Put the order's base shift into the base weights, once for all devices of a round."""
        shift = shift_id(order.tasks[0].assignment)
        if shift != self._shift:
            self._base = None
            self._variants.clear()  # they share its weights
            add_shift(self._loaded(), order.shift)
            self._shift = shift

    def _loaded(self) -> Classifier:
        if self._base is None:
            self._base = self.source.load()
        return self._base


def _together(order: Order) -> bool:
    """Whether these devices may train in one pass: not while a criterion that alters the steps scores them."""
    assignment = order.tasks[0].assignment
    return order.batched and not (assignment.score and CRITERIA[assignment.training.importance].own_steps)


def _empty(order: Order) -> dict[str, NDArray[np.float32]]:
    count = len(order.tasks)
    trained = order.tasks[0].assignment.training.trains.of(order.before)
    return {name: np.zeros((count, *value.shape), dtype=np.float32) for name, value in trained.items()}


def _failed(order: Order, error: FedcoreError) -> Answer:
    """Return the answer of devices that all fail for one reason; their states stay."""
    count = len(order.tasks)
    states = tuple(task.state for task in order.tasks)
    metrics = (Failure.of(error),) * count
    return Answer(metrics=metrics, scores=(None,) * count, increments=_empty(order), states=states)
