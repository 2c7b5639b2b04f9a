"""Local training of the adapter and head on a device: a few AdamW steps, measured as they run.

The model stays in evaluation mode: the base is frozen, so its dropout would only add noise to the increments, and
its masks would be kept for the backward pass. No clock is read here; a caller that counts time, or emulates a
slow device, passes a `Pace` (fedcore.nn.training.pace).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.distillation import Distillation
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError
from fedcore.core.seeds import generator
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.frozen import training_only
from fedcore.nn.training.batches import Batch, EncodedRows, collate, epoch_batches, probe_indices
from fedcore.nn.training.evaluate import forward_logits
from fedcore.nn.training.memory import LiveTensorMeter
from fedcore.nn.training.moments import Moment, Moments
from fedcore.nn.training.objective import Objective, blended, objective_of
from fedcore.nn.training.optimizer import make_optimizer, moments, restore
from fedcore.nn.training.pace import Pace, paced
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
    with training_only(classifier, spec.trains) as parameters:
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
    stream = epoch_batches(rows, spec.batch_size, generator(seed, "batches"), aids.labels.draws)
    chosen = [next(stream) for _ in range(steps)]
    objective = objective_of(classifier, aids.labels)
    loop = _Loop(classifier, parameters, optimizer, aids, objective)
    classifier.model.eval()
    with paced(aids.pace):
        targets = _teacher_targets(spec, aids.teacher, rows, chosen)
        before = _probe_loss(classifier, probe, objective)
    largest = _largest(chosen, rows.lengths)
    with nullcontext() if aids.scorer is None else aids.scorer.during_steps(classifier):
        for step, (indices, target) in enumerate(zip(chosen, targets, strict=True), start=1):
            with paced(aids.pace):
                loop.step(step, collate(rows, indices), target, measured=step == largest)
    scores = None
    with paced(aids.pace):
        after = _probe_loss(classifier, probe, objective)
        if aids.scorer is not None and aids.score:
            scores = aids.scorer.scores(classifier, collate(rows, next(stream)), objective)
    return TrainResult(
        metrics=TrainingMetrics(
            loss_before=before,
            loss_after=after,
            train_loss=_mean(loop.losses),
            peak_memory_mb=loop.peak_memory_mb,
            adapter_importance=_mean(loop.importances),
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
        self.importances: list[float] = []
        self.peak_memory_mb = 0.0

    def step(self, step: int, batch: Batch, targets: "TeacherTargets | None", *, measured: bool) -> None:
        """Take one optimiser step; `measured`: record its peak memory."""
        meter = LiveTensorMeter(self.classifier.model, self.optimizer) if measured else None
        with meter if meter is not None else nullcontext():
            loss = training_step(
                self.classifier,
                self.optimizer,
                batch,
                step=step,
                objective=self.objective,
                targets=targets,
                after_backward=self._observe,
            )
        if meter is not None:
            self.peak_memory_mb = meter.peak_mb
        self.losses.append(loss)
        if self.aids.on_step is not None:
            self.aids.on_step(step, loss)

    def _observe(self) -> None:
        self.importances.append(_sensitivity(self.adapter))
        if self.aids.scorer is not None:
            self.aids.scorer.observe(self.classifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherTargets:
    """The teacher's outputs for one batch."""

    logits: NDArray[np.float32]  # (rows, labels)
    how: Distillation


def training_step(
    classifier: Classifier,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    *,
    step: int = 1,
    objective: Objective | None = None,
    targets: TeacherTargets | None = None,
    after_backward: Callable[[], None] | None = None,
) -> float:
    """Take one optimiser step on `batch` and return its loss; gradients are dropped afterwards.

    `objective` (None: the task's) is minimised, blended with a teacher's under `targets`. `after_backward` runs while
    the gradients exist, before they are clipped. Raises FedcoreError naming `step` where the loss or the gradient norm
    is not finite; parameters and optimiser state are unchanged then.
    """
    objective = objective or objective_of(classifier)
    logits = forward_logits(classifier, batch)
    own = loss = objective(logits, batch["labels"].to(logits.device))
    if targets is not None:
        teacher = torch.from_numpy(targets.logits).to(logits.device)
        loss = blended(own, objective.divergence(logits, teacher, targets.how), targets.how)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise diverged(step, f"the loss is {value}")
    loss.backward()  # type: ignore[no-untyped-call]
    if after_backward is not None:
        after_backward()
    trainable = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = float(nn.utils.clip_grad_norm_(trainable, MAX_GRADIENT_NORM))
    if not math.isfinite(norm):
        raise diverged(step, f"the gradient norm is {norm}")
    scaled_step(optimizer, objective.step_scale(logits, batch["labels"].to(logits.device)))
    optimizer.zero_grad(set_to_none=True)
    return value if targets is None else float(own.detach())


def scaled_step(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Take a step at `scale` times the optimiser's learning rates, which stay as they are."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * scale
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def _teacher_targets(
    spec: TrainingSpec, teacher: Teacher | None, rows: EncodedRows, chosen: Sequence[NDArray[np.int64]]
) -> list[TeacherTargets | None]:
    """Return the teacher's targets of every `chosen` batch; the teacher answers for all rows at once."""
    how = spec.distillation
    if how is None or not chosen:
        return [None] * len(chosen)
    if teacher is None:
        raise ValueError("the spec asks for distillation; give the teacher")
    answers = teacher(rows, np.unique(np.concatenate(chosen)))
    return [TeacherTargets(logits=answers[indices], how=how) for indices in chosen]


def _largest(batches: Sequence[NDArray[np.int64]], lengths: Sequence[int]) -> int:
    """Return the step, from 1, whose padded batch has the most tokens."""
    tokens = [len(batch) * max(lengths[row] for row in batch) for batch in batches]
    return 1 + tokens.index(max(tokens)) if tokens else 0


def diverged(step: int, what: str) -> TrainingDiverged:
    """Return the error of a step whose loss or gradient is not finite."""
    return TrainingDiverged(
        f"training step {step}: {what}, expected a finite number; lower training.learning_rate or"
        " training.lora_scale, and look for damaged weights if it happens at step 1"
    )


def _probe_loss(classifier: Classifier, probe: Batch, objective: Objective) -> float:
    with torch.no_grad():
        logits = forward_logits(classifier, probe)
        return float(objective(logits, probe["labels"].to(logits.device)))


def _sensitivity(factors: list[nn.Parameter]) -> float:
    """Return the mean |value x gradient| over all values of the factors; 0 without any."""
    total = count = 0.0
    for factor in factors:
        if factor.grad is not None:
            total += float((factor.detach() * factor.grad).abs_().sum())
            count += factor.numel()
    return total / count if count else 0.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
