"""Local training of the adapter and head on a device: a few AdamW steps, measured as they run.

The model stays in evaluation mode: the base is frozen, so its dropout would only add noise to the increments, and
its masks would be kept for the backward pass. No clock is read here; a caller that counts time, or emulates a
slow device, passes a `Pace` (fedcore.nn.accelerator.pace).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError
from fedcore.core.precision import FLOAT16, FLOAT32
from fedcore.nn.accelerator.pace import Pace, paced
from fedcore.nn.losses.loss import Lesson
from fedcore.nn.model.checkpointing import checkpointed
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.frozen import training_only
from fedcore.nn.training.batches import Batch, EncodedRows, collate, probe_indices
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.memory import step_meter
from fedcore.nn.training.moments import Moment, Moments
from fedcore.nn.training.objective import Objective, blended, objective_of
from fedcore.nn.training.optimizer import make_optimizer, moments, restore
from fedcore.nn.training.replay import Mixture
from fedcore.nn.training.scorer import Scorer
from fedcore.nn.training.teacher import Teacher

MAX_GRADIENT_NORM = 1.0


class TrainingDiverged(FedcoreError):
    """A loss or a gradient is not finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingAids:
    """Optional inputs of training."""

    moments: Moments = field(default_factory=dict)  # optimiser state of the round before, in device coordinates
    scorer: Scorer | None = None  # sees every step, and may alter it
    score: bool = False  # whether `scorer` scores at the end
    on_step: Callable[[int, float], None] | None = None  # (step from 1, loss)
    labels: LabelPlan = field(default_factory=LabelPlan)  # correction for label skew
    pace: Pace | None = None
    teacher: Teacher | None = None  # asked once, about every row that trains, where the spec has a distillation
    texts: EncodedRows | None = None  # general ones, of which the spec has a share in every batch


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The results of a round of local training, beside the trained parameters."""

    metrics: TrainingMetrics
    moments: dict[str, Moment]
    scores: GroupScores | None


def train(
    classifier: Classifier,
    rows: EncodedRows,
    *,
    spec: TrainingSpec,
    steps: int,
    seed: int,
    aids: TrainingAids | None = None,
) -> TrainResult:
    """Take `steps` optimiser steps on batches of `rows`, shuffled by `seed`, changing the parameters in place.

    The loss is the task's, with `spec.distillation` blended with a teacher's (fedcore.nn.training.objective), gradients
    clipped to norm 1; what `spec.trains` freezes keeps its bits. Reported losses are the task's alone. The
    probe batch is spread evenly over `rows` and so the same in every round. Raises FedcoreError, naming the step, where
    a loss is not finite, and ValueError for a distillation without a teacher.
    """
    aids = aids or TrainingAids()
    with training_only(classifier, spec.trains) as parameters, checkpointed(classifier, spec.checkpointing):
        return _trained(classifier, rows, parameters, spec=spec, steps=steps, seed=seed, aids=aids)


def _trained(
    classifier: Classifier,
    rows: EncodedRows,
    parameters: dict[str, nn.Parameter],
    *,
    spec: TrainingSpec,
    steps: int,
    seed: int,
    aids: TrainingAids,
) -> TrainResult:
    optimizer = make_optimizer(parameters, learning_rate=spec.learning_rate, weight_decay=spec.weight_decay)
    restore(optimizer, parameters, aids.moments)
    probe = collate(rows, probe_indices(len(rows), spec.batch_size))
    mixture = Mixture.of(rows, aids.texts, spec.replay)
    stream = mixture.batches(spec.batch_size, seed, aids.labels)
    chosen = [next(stream) for _ in range(steps)]
    objective = objective_of(classifier, aids.labels)
    loop = _Loop(classifier, parameters, optimizer, aids, objective)
    classifier.model.eval()
    with paced(aids.pace):
        lessons = _lessons(spec, aids.teacher, mixture.rows, chosen)
        before = _probe_loss(classifier, probe, objective)
    largest = _largest(chosen, mixture.rows.lengths)
    with nullcontext() if aids.scorer is None else aids.scorer.during_steps(classifier):
        for step, (indices, lesson) in enumerate(zip(chosen, lessons, strict=True), start=1):
            with paced(aids.pace):
                loop.step(step, mixture.collate(indices), lesson, measured=step == largest)
    scores = None
    with paced(aids.pace):
        after = _probe_loss(classifier, probe, objective)
        if aids.scorer is not None and aids.score:
            scores = aids.scorer.scores(classifier, mixture.collate(next(stream)), objective)
    return TrainResult(
        metrics=TrainingMetrics(
            loss_before=before,
            loss_after=after,
            train_loss=_mean(loop.losses),
            peak_memory_mb=loop.peak_memory_mb,
            adapter_importance=loop.importance(),
        ),
        moments=moments(optimizer, parameters),
        scores=scores,
    )


class _Loop:
    """The optimiser steps, and the figures gathered during them."""

    def __init__(
        self,
        classifier: Classifier,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        aids: TrainingAids,
        objective: Objective,
    ) -> None:
        self.classifier, self.parameters, self.optimizer, self.aids = classifier, parameters, optimizer, aids
        self.objective = objective
        self.adapter = [parameter for name, parameter in parameters.items() if name.startswith("layers.")]
        self.losses: list[float] = []
        self.values = 0  # of the factors that have gradients
        self._sensitivities: list[torch.Tensor] = []  # of a step each; read at the end, for reading waits
        self.peak_memory_mb = 0.0

    def step(self, step: int, batch: Batch, lesson: Lesson | None, *, measured: bool) -> None:
        """Take one optimiser step; `measured`: record its peak memory."""
        meter = step_meter(self.classifier.device, self.classifier.model, self.optimizer) if measured else None
        with meter if meter is not None else nullcontext():
            loss = training_step(
                self.classifier,
                self.optimizer,
                batch,
                step=step,
                objective=self.objective,
                lesson=lesson,
                after_backward=self._observe,
            )
        if meter is not None:
            self.peak_memory_mb = meter.peak_mb
        self.losses.append(loss)
        if self.aids.on_step is not None:
            self.aids.on_step(step, loss)

    def importance(self) -> float:
        """Return the mean |value x gradient| over all values of the factors and all steps; 0 without any."""
        if not self._sensitivities:
            return 0.0
        return _mean([sum(sums) / self.values for sums in torch.stack(self._sensitivities).tolist()])

    def _observe(self) -> None:
        sums = _sensitivities(self.adapter)
        if sums is not None:
            self.values = sum(factor.numel() for factor in self.adapter if factor.grad is not None)
            self._sensitivities.append(sums)
        if self.aids.scorer is not None:
            self.aids.scorer.observe(self.classifier)


def training_step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    step: int = 1,
    objective: Objective | None = None,
    lesson: Lesson | None = None,
    after_backward: Callable[[], None] | None = None,
) -> float:
    """Take one optimiser step on `batch` and return its loss; gradients are dropped afterwards.

    `objective` (None: the task's) is minimised, blended with a teacher's under `lesson`. `after_backward` runs while
    the gradients exist, before they are clipped. Raises FedcoreError naming `step` where the loss or the gradient norm
    is not finite; parameters and optimiser state are unchanged then. In float16 a step whose gradients are infinite is
    left out.
    """
    objective = objective or objective_of(classifier)
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        logits = forward_logits(classifier, batch, lesson)
        own = loss = objective(logits, batch["labels"].to(logits.device))
        if lesson is not None:
            teacher = lesson.answers.to(logits.device)
            loss = blended(own, objective.divergence(logits, teacher, lesson.how), lesson.how)
        objective.scale.scaled(loss).backward()  # type: ignore[no-untyped-call]
        objective.scale.unscale(trainable)
        error = objective.error(logits, batch["labels"].to(logits.device))
        figures = read_figures(loss, own, nn.utils.clip_grad_norm_(trainable, math.inf), error)
        if _sound(figures, step, classifier, objective):
            if after_backward is not None:
                after_backward()
            nn.utils.clip_grad_norm_(trainable, MAX_GRADIENT_NORM)
            scaled_step(optimizer, objective.step_scale(figures.error, logits.shape[-1]))
        return figures.own
    finally:
        optimizer.zero_grad(set_to_none=True)


class StepFigures(NamedTuple):
    """A step's numbers: the loss that is minimised, the task's own, the gradients' norm, and the batch's error."""

    loss: float
    own: float
    norm: float
    error: float = 1.0  # see Objective.error


def read_figures(*figures: torch.Tensor | None) -> StepFigures:
    """Return scalars in the order of StepFigures as numbers: an accelerator is waited for once, for all of them."""
    present = [figure.detach() for figure in figures if figure is not None]
    return StepFigures(*torch.stack(present).tolist())


def _sound(figures: StepFigures, step: int, classifier: Classifier, objective: Objective) -> bool:
    """Return whether the optimiser takes the step; raises FedcoreError where training cannot go on."""
    if not math.isfinite(figures.loss):
        raise diverged(step, f"the loss is {figures.loss}", classifier.precision)
    finite = math.isfinite(figures.norm)
    if not objective.scale.settle(finite=finite):
        raise diverged(step, f"the gradient norm is {figures.norm}", classifier.precision)
    return finite


def scaled_step(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Take a step at `scale` times the optimiser's learning rates, which stay as they are."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * scale
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _lessons(
    spec: TrainingSpec, teacher: Teacher | None, rows: EncodedRows, chosen: Sequence[NDArray[np.int64]]
) -> list[Lesson | None]:
    """Return the teacher's answers to every `chosen` batch; it is asked about all rows at once."""
    how = spec.distillation
    if how is None or not chosen:
        return [None] * len(chosen)
    if teacher is None:
        raise ValueError("the spec asks for distillation; give the teacher")
    answers = teacher(rows, np.unique(np.concatenate(chosen)))
    return [Lesson(answers=torch.as_tensor(answers[indices]), how=how) for indices in chosen]


def _largest(batches: Sequence[NDArray[np.int64]], lengths: Sequence[int]) -> int:
    """Return the step, from 1, whose padded batch has the most tokens."""
    tokens = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    return 1 + tokens.index(max(tokens)) if tokens else 0


def diverged(step: int, what: str, precision: str = FLOAT32) -> TrainingDiverged:
    """Return the error of a step whose loss or gradient is not finite."""
    remedy = "lower training.learning_rate or training.lora_scale, and look for damaged weights if it happens at step 1"
    if precision == FLOAT16:
        remedy = (
            f'float16 ends at 65504: set training.precision = "float32" (or "bfloat16", if there is); else {remedy}'
        )
    return TrainingDiverged(f"training step {step}: {what}, expected a finite number; {remedy}")


def _probe_loss(classifier: Classifier, probe: Batch, objective: Objective) -> float:
    with torch.no_grad():
        logits = forward_logits(classifier, probe)
        return float(objective(logits, probe["labels"].to(logits.device)))


def _sensitivities(factors: list[nn.Parameter]) -> torch.Tensor | None:
    """Return the sum of |value x gradient| of every factor with a gradient, on its device; None without any."""
    sums = [(factor.detach() * factor.grad).abs_().sum() for factor in factors if factor.grad is not None]
    return torch.stack(sums) if sums else None


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
