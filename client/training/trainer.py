"""Carrying out one assignment with torch: prune, attach, train, take the increment. Runs on one worker thread."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.client.data.rows import Rows, targets_of
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.training_state import TrainingState
from fedcore.core.accelerators import CPU
from fedcore.core.config.tables import Config
from fedcore.core.data.label_prior import LabelPlan, label_plan
from fedcore.core.errors import FedcoreError, OutOfMemory
from fedcore.core.model.adapter import AdapterSpec, Tensors, restrict
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.quantization import NONE
from fedcore.core.precision import FLOAT32
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.options import DEFAULTS, TaskOptions, options_of
from fedcore.core.tasks.table import task_of
from fedcore.core.tasks.task import Task
from fedcore.nn.accelerator.clock import synchronised
from fedcore.nn.accelerator.memory import guarded, release
from fedcore.nn.accelerator.pace import Pace
from fedcore.nn.criteria.influence import WithInfluences
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.encoding.table import ENCODERS
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import adapted, attach, load_adapter, read_adapter
from fedcore.nn.model.quantized import quantize
from fedcore.nn.model.shift import add_shift
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.moments import Holding, Moments, follow
from fedcore.nn.training.rate_trial import trial_losses
from fedcore.nn.training.scorer import Scorer
from fedcore.nn.training.teacher import Answers, Teacher, answers
from fedcore.nn.training.train import TrainingAids, TrainResult, train
from fedcore.protos.values import WireAssignment
from fedcore.transport.download import Received

Arrays = dict[str, NDArray[np.float32]]


class Cancelled(FedcoreError):
    """The assignment was taken back while it was being worked on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Which base model is trained, how it is loaded, and what the run agreed on."""

    folder: Path
    labels: tuple[str, ...]
    head: str
    dtype: str
    max_length: int
    targets: tuple[str, ...]
    task: Task = CLASSIFICATION
    options: TaskOptions = DEFAULTS
    device: str = CPU  # where the model lies, as PyTorch calls it
    precision: str = FLOAT32  # in which it computes; float32 too where models are measured and exported

    @staticmethod
    def of(
        config: Config, folder: Path, *, labels: tuple[str, ...], targets: tuple[str, ...], device: str = CPU
    ) -> "ModelSource":
        """Return the source of the model in `folder` as a configuration reads it, in float32."""
        return ModelSource(
            folder=folder,
            labels=labels,
            head=config.model.head,
            dtype=config.model.dtype,
            max_length=config.model.max_length,
            targets=targets,
            task=task_of(config),
            options=options_of(config.task),
            device=device,
        )

    def encode(self, rows: Rows) -> EncodedRows:
        """Return rows as the model reads them, with the targets of its task."""
        targets = targets_of(rows, self.labels, self.task)
        encoder = ENCODERS[self.task.encoder]
        return encoder(self.folder, rows.texts, rows.labels, targets, self.max_length, self.options)

    def load(self) -> Classifier:
        """Return the base model with its task head, on its device."""
        return load_classifier(
            self.folder,
            labels=self.labels,
            head=self.head,
            dtype=self.dtype,
            task=self.task,
            device=self.device,
            precision=self.precision,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRound:
    """What local training leaves: the increment of what trained (device coordinates, scale folded in), and more."""

    increment: Arrays
    result: TrainResult
    state: TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOutcome:
    """The increment (device coordinates, scale folded in) and what was measured on the way."""

    increment: Arrays
    result: TrainResult
    prune_s: float
    train_s: float
    state: TrainingState
    geometry: Geometry  # of the dense model


@dataclass(slots=True)
class Trainer:
    """Keeps one model loaded over the rounds; loads it anew for a keep-set that is no subset, or another base shift."""

    source: ModelSource
    rows: Rows
    slow: SlowCpu
    clock: Callable[[], float] = time.perf_counter
    cpu_clock: Callable[[], float] = time.process_time  # all threads: torch may use several; read on the CPU alone
    cancel: threading.Event = field(default_factory=threading.Event)
    say: Callable[[str], object] = lambda _: None  # told what is cut of the rows
    texts: Rows | None = None  # general ones, where this device has any
    _classifier: Classifier | None = None
    _shift: str = ""  # which base shift is in its weights
    _form: str = NONE  # in which its base is
    _encoded: EncodedRows | None = None
    _encoded_texts: EncodedRows | None = None
    _lacks_texts: bool = False  # and has said so

    def prepare(self) -> None:
        """Load model, tokenizer and rows ahead of the first assignment."""
        self._load()

    def switch_to(self, rows: Rows, slow: SlowCpu, texts: Rows | None = None) -> None:
        """Train on another device's rows from here on, with the same model; no state of the last device stays in it."""
        if texts is not self.texts:
            self.texts, self._encoded_texts = texts, None
        self.rows, self.slow, self._encoded = rows, slow, None

    def run(
        self,
        assignment: WireAssignment,
        received: Received,
        state: TrainingState,
        on_step: Callable[[int], None],
    ) -> TrainingOutcome:
        """Carry out `assignment` from the adapter received for it.

        Raises Cancelled soon after `cancel` was set, FedcoreError where training diverges, and OutOfMemory where the
        work needs more memory than there is: then the model is let go, and the next assignment loads it anew.
        """
        device = self.source.device
        try:
            with guarded(device, f"round {assignment.round}: {_described(assignment)}"):
                return self._run(assignment, received, state, on_step)
        except OutOfMemory:
            self._classifier, self._shift = None, ""
            release(device)
            raise

    def _run(
        self,
        assignment: WireAssignment,
        received: Received,
        state: TrainingState,
        on_step: Callable[[int], None],
    ) -> TrainingOutcome:
        clock = synchronised(self.clock, self.source.device)
        work_clock = self.cpu_clock if self.source.device == CPU else clock
        begin, work = clock(), work_clock()
        classifier = self._cut_model(assignment, received)
        before = device_adapter(classifier, assignment, received, self.source.targets)
        load_adapter(classifier, before)
        self.slow.pause(work_clock() - work)
        pruned = clock()
        local = local_round(
            classifier,
            self._encode_rows(),
            assignment,
            before,
            state,
            on_step=lambda step, _: self._step(step, on_step),
            pace=Pace(clock=work_clock, pause=self._pause),
            teacher=lambda rows, wanted: self._teacher_answers(rows, wanted, assignment, received.tensors),
            texts=self._encode_texts(assignment),
        )
        return TrainingOutcome(
            increment=local.increment,
            result=local.result,
            prune_s=pruned - begin,
            train_s=clock() - pruned,
            state=local.state,
            geometry=classifier.geometry,
        )

    def _teacher_answers(
        self, rows: EncodedRows, wanted: NDArray[np.int64], assignment: WireAssignment, download: Tensors
    ) -> Answers:
        """Return what the dense model with the downloaded adapter answers; it is loaded for this alone, and dropped."""
        source, dense = self.source, self.source.load()
        add_shift(dense, download)
        attach(dense, rank=assignment.arm.rank, scale=assignment.training.lora_scale, targets=source.targets)
        received = Received(keep_set=dense.keep_set, tensors=download)  # all rows: no rings where there is a teacher
        load_adapter(dense, device_adapter(dense, assignment, received, source.targets))
        return answers(dense, rows, wanted, assignment.training.batch_size)

    def _step(self, step: int, on_step: Callable[[int], None]) -> None:
        if self.cancel.is_set():
            raise Cancelled(f"training stopped at step {step}: the assignment was taken back")
        on_step(step)

    def _pause(self, cpu_seconds: float) -> None:
        self.slow.pause(cpu_seconds)

    def _load(self) -> Classifier:
        if self._classifier is None:
            self._classifier = self.source.load()
        self._encode_rows()
        return self._classifier

    def _encode_rows(self) -> EncodedRows:
        if self._encoded is None:
            self._encoded = self.source.encode(self.rows)
            for note in self._encoded.notes:
                self.say(f"warning: {note}")
        return self._encoded

    def _encode_texts(self, assignment: WireAssignment) -> EncodedRows | None:
        if not assignment.training.replay:
            return None
        if self.texts is None:
            if not self._lacks_texts:
                self.say("warning: the run replays general texts, and this device has none: join with --replay FILE")
            self._lacks_texts = True
            return None
        if self._encoded_texts is None:
            self._encoded_texts = self.source.encode(self.texts)
            for note in self._encoded_texts.notes:
                self.say(f"general texts: {note}")
        return self._encoded_texts

    def _cut_model(self, assignment: WireAssignment, received: Received) -> Classifier:
        keep_set, classifier, shift = received.keep_set, self._load(), shift_id(assignment)
        form = assignment.training.quantize
        keep_set.validate(classifier.geometry)
        fits = keep_set.is_subset_of(classifier.keep_set) and shift == self._shift
        if not fits or self._must_quantize(form, keep_set, classifier):
            # Rolled back: masks are reversible, the base model lies whole on disk.
            del classifier  # two models at once may be too many
            self._classifier, self._shift, self._form = None, "", NONE
            classifier = self._load()
            add_shift(classifier, received.tensors)
            self._shift = shift
        if keep_set != classifier.keep_set:
            shrink(classifier, keep_set)
        if form != self._form:
            quantize(classifier, form)
            self._form = form
        if next(adapted(classifier), None) is None:
            attach(
                classifier, rank=assignment.arm.rank, scale=assignment.training.lora_scale, targets=self.source.targets
            )
        return classifier

    def _must_quantize(self, form: str, keep_set: KeepSet, classifier: Classifier) -> bool:
        """Whether the base must be quantised anew: rows of packed weights cannot be taken, nor adapters packed."""
        if form == self._form:
            return form != NONE and keep_set != classifier.keep_set
        return self._form != NONE or next(adapted(classifier), None) is not None


def _described(assignment: WireAssignment) -> str:
    arm = assignment.arm
    return f"training at sparsity {arm.sparsity:.2f} and rank {arm.rank}"


def shift_id(assignment: WireAssignment) -> str:
    """Return what names the base shift a device trains on; empty for none."""
    return "" if assignment.base_shift is None else assignment.base_shift.whole.id


def device_adapter(
    classifier: Classifier, assignment: WireAssignment, received: Received, targets: tuple[str, ...]
) -> Arrays:
    """Return the part of the downloaded adapter that a cut model takes under `assignment`."""
    tensors, rank = received.tensors, assignment.arm.rank
    head = tuple(sorted((name, value.shape) for name, value in tensors.items() if name.startswith("head.")))
    spec = AdapterSpec(geometry=classifier.geometry, rank=rank, targets=targets, head=head)
    return restrict(spec, tensors, rank=rank, keep_set=classifier.keep_set, within=received.within)


def local_round(
    classifier: Classifier,
    rows: EncodedRows,
    assignment: WireAssignment,
    before: Arrays,
    state: TrainingState,
    *,
    on_step: Callable[[int, float], None] | None = None,
    pace: Pace | None = None,
    teacher: Teacher | None = None,
    texts: EncodedRows | None = None,
) -> LocalRound:
    """Train a cut model in which `before` is loaded, and return the increment: a device's part of a round."""
    holding = Holding(keep_set=classifier.keep_set, rank=assignment.arm.rank)
    scorer, labels = _scorer(assignment, state, classifier), own_label_plan(assignment, rows)
    losses = rate_trial(classifier, rows, assignment, before, labels=labels, pace=pace, on_step=on_step)
    result = train(
        classifier,
        rows,
        spec=assignment.training,
        steps=assignment.local_steps,
        seed=assignment.seed,
        aids=TrainingAids(
            moments=resumed_moments(assignment, state, classifier.geometry, holding),
            scorer=scorer,
            labels=labels,
            score=assignment.score,
            on_step=on_step,
            pace=pace,
            teacher=teacher,
            texts=texts,
        ),
    )
    after = read_adapter(classifier)
    groups = state.groups if scorer is None else scorer.state
    return LocalRound(
        increment={name: after[name] - before[name] for name in assignment.training.trains.of(before)},
        result=replace(result, metrics=replace(result.metrics, trial_losses=losses)),
        state=TrainingState(basis=assignment.basis, holding=holding, moments=result.moments, groups=groups),
    )


def rate_trial(
    classifier: Classifier,
    rows: EncodedRows,
    assignment: WireAssignment,
    before: Arrays,
    *,
    labels: LabelPlan,
    pace: Pace | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[float, ...]:
    """Return the losses of an assignment's trial of learning rates, empty without one; `before` stays loaded."""
    trial = assignment.training.trial
    if trial is None:
        return ()
    return trial_losses(
        classifier,
        rows,
        before,
        spec=assignment.training,
        trial=trial,
        seed=assignment.seed,
        labels=labels,
        pace=pace,
        on_step=on_step,
    )


def resumed_moments(assignment: WireAssignment, state: TrainingState, geometry: Geometry, holding: Holding) -> Moments:
    """Return the optimiser state that training under `assignment` resumes; empty where it begins afresh."""
    if not assignment.training.keep_optimizer or state.basis != assignment.basis:
        return {}
    if not state.moments or state.holding is None:
        return state.moments
    return follow(state.moments, geometry, before=state.holding, after=holding)


def own_label_plan(assignment: WireAssignment, rows: EncodedRows) -> LabelPlan:
    """Return what a device with these rows does about label skew: nothing without the fleet's label counts."""
    if not assignment.label_counts:
        return LabelPlan()
    own = np.bincount(rows.labels, minlength=len(assignment.label_counts))
    return label_plan(own.tolist(), assignment.label_counts, balance=assignment.training.balanced)


def _scorer(assignment: WireAssignment, state: TrainingState, classifier: Classifier) -> Scorer | None:
    """Return the scorer of this round; None where the assignment asks for no scores."""
    if not assignment.score:
        return None
    begin = Beginning(geometry=classifier.geometry, seed=assignment.seed, state=state.groups)
    scorer = make_scorer(assignment.training.importance, begin)
    return WithInfluences(scorer) if assignment.training.score_layers else scorer
