"""Local training of many virtual devices of one shape in one pass, with the results of `fedcore.nn.training.train`.

All devices share the frozen base model. So one forward and one backward pass carries the rows of all of them, and only
factors and heads need batched products (`lora`). A device has the same batches, losses, clipping and AdamW steps as
alone. Nothing is padded between rows (`packed_rows`), and where a device's first batch is its probe batch
too, the loss of the first step is the loss before.

Memory beyond the model: 12 bytes per device and trained value (of which the increments take over 4), and the
activations of one pass, which `max_tokens` bounds. A simulation of thousands of devices passes them in by the hundred.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.contract.outcome import GroupScores, TrainingMetrics
from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.errors import FedcoreError
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.nn.batched.forward import batched_logits, device_losses, device_means
from fedcore.nn.batched.lora import StackedLora, freeze, put_factors, stacked
from fedcore.nn.batched.packed_attention import packed
from fedcore.nn.batched.packed_rows import PackedBatch, TokenTable
from fedcore.nn.batched.schedule import BatchSchedule, Indices, passes, schedule
from fedcore.nn.batched.scores import StackedAverages, StackedVectors, group_scores, lora_vectors, observed
from fedcore.nn.batched.stacked_state import Layout, StackedState
from fedcore.nn.criteria.influence import block_influences
from fedcore.nn.criteria.layer_inputs import calibration_failed
from fedcore.nn.criteria.table import Beginning, make_scorer
from fedcore.nn.losses.table import LOSSES
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import load_adapter, read_adapter
from fedcore.nn.training.batches import EncodedRows, collate
from fedcore.nn.training.moments import Moments
from fedcore.nn.training.objective import blended, objective_of, row_errors, step_scale
from fedcore.nn.training.scorer import GroupState
from fedcore.nn.training.step_memory import StepMemory, measure_step_memory
from fedcore.nn.training.teacher import Answers
from fedcore.nn.training.train import MAX_GRADIENT_NORM, TrainResult, diverged

STACKED = ("taylor", "lora-taylor")  # criteria that score many devices in one pass

Batches = Mapping[int, Indices]  # by device: row numbers within its shard

PASS_BYTES = 128 << 20  # activations that a pass may keep for its backward pass, by default


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualTask:
    """One virtual device's rows, seed and kept states."""

    rows: EncodedRows
    seed: int
    labels: LabelPlan = field(default_factory=LabelPlan)  # as in TrainingAids
    moments: Moments = field(default_factory=dict)  # kept optimiser state in device coordinates, or empty
    teacher: Answers | None = None  # of the rows that train, where the spec has a distillation
    smoothed: GroupState | None = None  # running averages of "lora-taylor"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTrained:
    """The results of all devices, in the order of the tasks."""

    # of the trained tensors, name -> (devices, *shape): after - before, the scale folded into B
    increments: dict[str, NDArray[np.float32]]
    results: tuple[TrainResult | FedcoreError, ...]  # an error for a device that failed: its increments are zero
    smoothed: tuple[GroupState | None, ...]


def train_batched(
    classifier: Classifier,
    before: Mapping[str, NDArray[np.float32]],
    tasks: Sequence[VirtualTask],
    *,
    spec: TrainingSpec,
    steps: int,
    score: bool,
    keep_moments: bool = False,
    max_tokens: int | None = None,
    memory: StepMemory | None = None,
) -> BatchTrained:
    """Train every task for `steps` steps from the adapter `before` (device coordinates) and return the results.

    `classifier` is cut, with adapters of the rank of `before`; its modules and values are the same afterwards. With
    `score`, results have group scores by `spec.importance`. Peak memory estimates a device that
    trains alone, from `memory`, or else from two measured steps. A device whose loss or gradient is not
    finite fails by itself. One pass takes up to `max_tokens` tokens (default: as many as keep to about 128 MiB), or
    one device. Raises ModelError where `before` or moments do not fit the model.
    """
    if not tasks:
        raise ValueError("no task to train; give at least one")
    if score and CRITERIA[spec.importance].own_steps:
        raise ValueError(f"importance {spec.importance!r} alters training steps: train the devices one by one")
    training = classifier.model.training
    classifier.model.eval()
    try:
        plans = [
            schedule(task.rows, task.seed, batch_size=spec.batch_size, steps=steps, draws=task.labels.draws)
            for task in tasks
        ]
        sizes = [plan.largest(task.rows.lengths) for plan, task in zip(plans, tasks, strict=True)]
        if memory is None:
            rows, width = (max(column) for column in zip(*sizes, strict=True))
            memory = measure_step_memory(classifier, spec, rows=rows, width=width) if steps else StepMemory()
        layout = Layout.of(classifier, spec.trains)
        state = StackedState(layout, spec.trains.of(before), [task.moments for task in tasks], classifier.device)
        with stacked(classifier) as layers, packed(classifier):
            freeze(layers, before, spec.trains)
            limit = max_tokens or default_tokens(classifier)
            run = _Run(classifier, layers, state, tasks, plans, spec=spec, max_tokens=limit, score=score)
            run.train(steps)
            scores = run.scores() if score and spec.importance in STACKED else {}
        if score and spec.importance not in STACKED:
            scores = run.scores_one_by_one(tasks, before)
        if score and spec.score_layers:
            scores = run.with_influences(scores, tasks, before)
    finally:
        classifier.model.train(training)
    peaks = [memory.peak_mb(rows * width) for rows, width in sizes]
    results = tuple(run.result(device, peak, scores.get(device), keep_moments) for device, peak in enumerate(peaks))
    return BatchTrained(results=results, increments=run.increments(), smoothed=run.smoothed())


def default_tokens(classifier: Classifier) -> int:
    """Return the tokens of a pass that keeps about 128 MiB for its backward pass.

    Per token and layer, that is some 14 vectors of the hidden size and, with a gate, 4 (else 2) of the FFN's.
    """
    geometry = classifier.geometry
    channels = max(len(channel) for channel in classifier.keep_set.channels)
    values = len(classifier.layers) * (14 * geometry.hidden + (4 if geometry.gated else 2) * channels)
    return max(1, PASS_BYTES // (4 * values))


class _Run:
    """Values and batches of all devices, and the figures gathered while they train."""

    def __init__(
        self,
        classifier: Classifier,
        layers: Mapping[str, StackedLora],
        state: StackedState,
        tasks: Sequence[VirtualTask],
        plans: Sequence[BatchSchedule],
        *,
        spec: TrainingSpec,
        max_tokens: int,
        score: bool,
    ) -> None:
        self.classifier, self.layers, self.plans, self.spec = classifier, layers, plans, spec
        self.max_tokens = max_tokens
        self.state, self.loss = state, LOSSES[classifier.task.loss]
        self.table = TokenTable.of([task.rows for task in tasks], classifier.device)
        labels = np.zeros(classifier.outputs, dtype=np.float32)
        self.shift = torch.from_numpy(
            np.stack([labels if task.labels.shift is None else task.labels.shift for task in tasks])
        ).to(classifier.device)
        self.one_sided = [task.labels.one_sided for task in tasks]
        self.answers = _stacked_answers(tasks).to(classifier.device) if spec.distillation is not None else None
        self.averages: StackedAverages | None = None
        if score and spec.importance == "lora-taylor":
            self.averages = StackedAverages(classifier, [task.smoothed for task in tasks])
        self.failures: dict[int, FedcoreError] = {}
        self.before, self.after = np.zeros(len(tasks)), np.zeros(len(tasks))
        self.losses, self.importances = np.zeros(len(tasks)), np.zeros(len(tasks))  # sums over the steps
        self.steps = 0

    def train(self, steps: int) -> None:
        """Take all steps, with the probe losses before and after."""
        self._probe(self.before, {i: plan.probe for i, plan in enumerate(self.plans) if not plan.starts_on_probe})
        for step in range(steps):
            batches = {i: plan.steps[step] for i, plan in enumerate(self.plans) if i not in self.failures}
            for devices in self._passes(batches):
                self._step(step + 1, devices, batches)
        self.steps = steps
        self._probe(self.after, {i: plan.probe for i, plan in enumerate(self.plans) if i not in self.failures})

    def scores(self) -> dict[int, GroupScores]:
        """Return group scores by device, of those that did not fail."""
        if self.averages is not None:
            return dict(enumerate(self.averages.scores()))
        scores: dict[int, GroupScores] = {}
        batches = {i: plan.calibration for i, plan in enumerate(self.plans) if i not in self.failures}
        for devices in self._passes(batches):
            vectors: StackedVectors = {}
            with observed(self.classifier, vectors):
                losses = self._losses(devices, batches, self._values(devices))
                losses.sum().backward()  # type: ignore[no-untyped-call]
            scores |= dict(zip(devices, group_scores(vectors, self.classifier), strict=True))
            for device, loss in zip(devices, losses.tolist(), strict=True):
                if not np.isfinite(loss):
                    self.failures[device] = calibration_failed()
        return scores

    def with_influences(
        self,
        scores: Mapping[int, GroupScores],
        tasks: Sequence[VirtualTask],
        before: Mapping[str, NDArray[np.float32]],
    ) -> dict[int, GroupScores]:
        """Return the scores with every device's influences of whole blocks; call it as `scores_one_by_one`."""
        own, found = read_adapter(self.classifier), {}
        for device, groups in scores.items():
            load_adapter(self.classifier, {**before, **self.state.tensors(device)})
            batch = collate(tasks[device].rows, self.plans[device].calibration)
            found[device] = replace(groups, layers=block_influences(self.classifier, batch))
        load_adapter(self.classifier, own)
        return found

    def scores_one_by_one(
        self, tasks: Sequence[VirtualTask], before: Mapping[str, NDArray[np.float32]]
    ) -> dict[int, GroupScores]:
        """Return group scores under any other criterion: load one device's values after the other into the model.

        Call it once the model has its own layers again. Tensors that do not train come from `before`; the model's own
        values are restored at the end.
        """
        scores: dict[int, GroupScores] = {}
        own = read_adapter(self.classifier)
        for device, (task, plan) in enumerate(zip(tasks, self.plans, strict=True)):
            if device in self.failures:
                continue
            load_adapter(self.classifier, {**before, **self.state.tensors(device)})
            begin = Beginning(geometry=self.classifier.geometry, seed=task.seed)
            batch = collate(task.rows, plan.calibration)
            try:
                scorer = make_scorer(self.spec.importance, begin)
                scores[device] = scorer.scores(self.classifier, batch, objective_of(self.classifier, task.labels))
            except FedcoreError as error:
                self.failures[device] = error
        load_adapter(self.classifier, own)
        return scores

    def result(
        self, device: int, peak_mb: float, scores: GroupScores | None, keep_moments: bool
    ) -> TrainResult | FedcoreError:
        """Return the figures of one device, or why it failed."""
        if device in self.failures:
            return self.failures[device]
        steps = max(1, self.steps)
        return TrainResult(
            metrics=TrainingMetrics(
                loss_before=float(self.before[device]),
                loss_after=float(self.after[device]),
                train_loss=float(self.losses[device]) / steps,
                peak_memory_mb=peak_mb,
                adapter_importance=float(self.importances[device]) / steps,
            ),
            moments=self.state.moments(device) if keep_moments else {},
            scores=scores,
        )

    def increments(self) -> dict[str, NDArray[np.float32]]:
        """Return the increments of all devices, zero for those that failed; the state is invalid then."""
        increments = self.state.increments()
        for device in self.failures:
            for value in increments.values():
                value[device] = 0.0
        return increments

    def smoothed(self) -> tuple[GroupState | None, ...]:
        """Return the running averages of all devices; None each where the criterion keeps none."""
        return self.averages.states() if self.averages is not None else (None,) * len(self.plans)

    def _step(self, step: int, devices: list[int], batches: Batches) -> None:
        """Take one optimiser step with these devices; a device without a finite loss or gradient fails instead."""
        values = self._values(devices, trainable=True)
        losses, own, scales = self._objectives(devices, batches, values)
        gradients = dict(zip(values, torch.autograd.grad(losses.sum(), list(values.values())), strict=True))
        if self.averages is not None:
            vectors = lora_vectors(self.classifier, self.layers, gradients)
            self.averages.observe(devices, vectors, first_layer=self.spec.trains.first_layer)
        lines = torch.cat([gradient.flatten(1) for gradient in gradients.values()], dim=1)  # (devices, values)
        self._note(devices, own.detach().cpu(), lines, first=step == 1)
        norms = lines.norm(dim=1)
        for what, figures in (("loss", losses), ("gradient norm", norms)):
            for device, figure in zip(devices, figures.tolist(), strict=True):
                if not np.isfinite(figure):
                    self.failures.setdefault(device, diverged(step, f"the {what} is {figure}"))
        lines.mul_((MAX_GRADIENT_NORM / (norms + 1e-6)).clamp(max=1.0)[:, None])  # as torch's clip_grad_norm_
        by_scale: dict[float, list[int]] = {}
        for line, (device, scale) in enumerate(zip(devices, scales, strict=True)):
            if device not in self.failures:
                by_scale.setdefault(scale, []).append(line)
        for scale, sound in by_scale.items():
            self.state.step(
                [devices[line] for line in sound],
                lines if len(sound) == len(devices) else lines[sound],
                learning_rate=self.spec.learning_rate * scale,
                weight_decay=self.spec.weight_decay,
            )

    def _note(self, devices: list[int], losses: torch.Tensor, gradients: torch.Tensor, *, first: bool) -> None:
        """Add up losses and sensitivities; where the first batch is the probe, its loss is the loss before training."""
        factors = self.state.layout.factor_values
        products = self.state.values[devices, :factors].mul_(gradients[:, :factors]).abs_()
        self.importances[devices] += products.sum(dim=1).cpu().numpy() / max(1, factors)
        self.losses[devices] += losses.numpy()
        if first:
            alike = [line for line, device in enumerate(devices) if self.plans[device].starts_on_probe]
            self.before[[devices[line] for line in alike]] = losses.numpy()[alike]

    def _probe(self, target: NDArray[np.float64], batches: Batches) -> None:
        with torch.no_grad():
            for devices in self._passes(batches):
                target[devices] = self._losses(devices, batches, self._values(devices)).cpu().numpy()

    def _passes(self, batches: Batches) -> Iterator[list[int]]:
        """Yield groups of the devices in `batches`, similar sizes together."""
        return passes({i: self.table.size_of(i, batch) for i, batch in batches.items()}, self.max_tokens)

    def _values(self, devices: list[int], *, trainable: bool = False) -> dict[str, torch.Tensor]:
        """Return copies of these devices' values by name, (devices, *shape)."""
        split = self.state.layout.split(self.state.values[devices])
        return {name: value.detach().requires_grad_(trainable) for name, value in split.items()}

    def _losses(self, devices: list[int], batches: Batches, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the task's loss of every device on its batch, (devices,)."""
        batch, logits = self._logits(devices, batches, values)
        return device_losses(self.loss, logits, batch, self.shift[devices])

    def _objectives(
        self, devices: list[int], batches: Batches, values: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
        """Return the loss that every device minimises on its batch, the task's own, and its step's scale.

        The first two are (devices,).
        """
        batch, logits = self._logits(devices, batches, values)
        losses = device_losses(self.loss, logits, batch, self.shift[devices])
        scales = self._step_scales(devices, batch, logits)
        how = self.spec.distillation
        if how is None or self.answers is None:
            return losses, losses, scales
        rows = self.table.rows_of(devices, [batches[device] for device in devices])
        divergence = device_means(self.loss.divergence(logits, self.answers[rows][batch.pick], how), batch)
        return blended(losses, divergence, how), losses, scales

    def _step_scales(self, devices: list[int], batch: PackedBatch, logits: torch.Tensor) -> list[float]:
        """Return the factor of every device's learning rate, as `Objective.step_scale`."""
        one_sided = [self.one_sided[device] for device in devices]
        if not any(one_sided):
            return [1.0] * len(devices)
        errors = device_means(row_errors(logits, batch.labels), batch).tolist()
        labels = logits.shape[-1]
        return [step_scale(error, labels, own) for error, own in zip(errors, one_sided, strict=True)]

    def _logits(
        self, devices: list[int], batches: Batches, values: Mapping[str, torch.Tensor]
    ) -> tuple[PackedBatch, torch.Tensor]:
        """Return the devices' batches as one, and their logits."""
        put_factors(self.layers, values)
        batch = self.table.pack(devices, [batches[device] for device in devices])
        head = {name: value for name, value in values.items() if name.startswith("head.")}
        return batch, batched_logits(self.classifier, batch, head)


def _stacked_answers(tasks: Sequence[VirtualTask]) -> torch.Tensor:
    """Return the teacher's answers for all tasks, (rows of all devices, labels), in the row order of the table."""
    answers = [task.teacher for task in tasks if isinstance(task.teacher, np.ndarray)]
    if len(answers) != len(tasks):
        raise ValueError("the spec asks for distillation; give every task its teacher's answers")
    return torch.from_numpy(np.concatenate(answers))
