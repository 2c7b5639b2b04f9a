"""A fleet in one process: the project's own strategy, trainers and aggregator, without wire, clock or ledger.

A device gets and returns the same as in a real run, so updates and accuracies are real; only times are not.
With `strategy.reward_times = "model"` and without memory limits the same configuration gives the same run.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.client.data.rows import Rows, label_list
from fedcore.client.data.shards import device_rows, test_rows
from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.client.options import DataOptions
from fedcore.client.training.slow_cpu import SlowCpu
from fedcore.client.training.trainer import ModelSource, Trainer, TrainingOutcome
from fedcore.client.training.training_state import TrainingState
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Arm, Assignment
from fedcore.core.contract.outcome import DeviceReport, Outcome, Status
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Strategy
from fedcore.core.contract.update import Update
from fedcore.core.data.figures import Metrics
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.head import resolve_head
from fedcore.protos.convert.assignment import AssignmentBlobs, to_wire
from fedcore.protos.values import BlobRef, WireAssignment
from fedcore.server.aggregate.assemble import untrained_adapter
from fedcore.storage.models.checkpoint import read_config
from fedcore.storage.models.magnitudes import weight_magnitudes
from fedcore.storage.models.model_source import model_folder
from fedcore.storage.models.tensor_file import tensor_index
from fedcore.strategies.table import make_strategy
from fedcore.transport.download import Received

Arrays = dict[str, NDArray[np.float32]]
Carry = Callable[[Assignment, Arrays], Tensors]  # from what a device made to what the coordinator folds
_NO_BLOB = BlobRef(id="", size=0)  # an assignment names blobs; a rehearsal hands their contents over
_NO_BLOBS = AssignmentBlobs(
    keep_set=_NO_BLOB,
    rings=(),
    inside=None,
    rank_blocks=(),
    head=_NO_BLOB,
    base_shift=None,
    max_upload_bytes=0,
)


def as_made(assignment: Assignment, increment: Arrays) -> Tensors:
    """Carry an update without any loss."""
    return increment


@dataclass(slots=True, kw_only=True)
class _Device:
    """One device: what it says of itself, its trainer, and its state between rounds."""

    profile: DeviceProfile
    trainer: Trainer
    state: TrainingState


@dataclass(slots=True, kw_only=True)
class Rehearsal:
    """One run. Use `rounds` once, to its end; then `metrics` measures the global adapter."""

    config: Config
    strategy: Strategy
    devices: Mapping[str, _Device]
    evaluator: ModelEvaluator
    tensors: Arrays
    label_counts: tuple[int, ...]

    def rounds(self, carry: Carry = as_made) -> Iterator[int]:
        """Carry out every round; yields its number once it is closed."""
        state, velocity = self.strategy.start(), None
        roster = [self.devices[name].profile for name in sorted(self.devices)]
        for number in range(1, self.config.run.rounds + 1):
            state, plan = self.strategy.plan(state, roster, number)
            partial = self.strategy.aggregator.start(self.strategy.spec)
            outcomes = []
            for assignment in plan.assignments:
                trained = self._trained(assignment)
                update = Update(
                    device=assignment.device,
                    round=number,
                    weight=assignment.weight,
                    rank=assignment.arm.rank,
                    keep_set=assignment.keep_set,
                    tensors=carry(assignment, trained.increment),
                )
                partial = self.strategy.aggregator.fold(partial, update)
                outcomes.append(self._outcome(assignment, trained))
            after, _ = self.strategy.aggregator.finish(partial, self.tensors)
            if self.strategy.server_optimizer is not None:
                after, velocity = self.strategy.server_optimizer.step(self.tensors, after, velocity)
            self.tensors = after
            state, _ = self.strategy.close(state, outcomes, number)
            yield number

    def metrics(self) -> Metrics:
        """Measure the global adapter on the dense model and all held-back rows."""
        # by their number: 0 would mean the end of a run, from which on torch takes every core
        return self.evaluator.evaluate(self.tensors, len(self.evaluator.test), self.config.training.lora_scale)

    def _trained(self, assignment: Assignment) -> TrainingOutcome:
        device = self.devices[assignment.device]
        received = Received(keep_set=assignment.keep_set, tensors=self.tensors)
        trained = device.trainer.run(self._wire(assignment), received, device.state, on_step=lambda _: None)
        device.state = trained.state
        return trained

    def _wire(self, assignment: Assignment) -> WireAssignment:
        return to_wire(assignment, _NO_BLOBS, basis="", label_counts=self.label_counts)

    def _outcome(self, assignment: Assignment, trained: TrainingOutcome) -> Outcome:
        profile, result = self.devices[assignment.device].profile, trained.result
        sparsity = assignment.keep_set.sparsity(self.strategy.spec.geometry)
        report = DeviceReport(
            metrics=result.metrics,
            phase_s={"train": trained.train_s},
            num_examples=profile.num_examples,
            steps=assignment.local_steps,
            bytes_down=0,
            bytes_up=0,
        )
        return Outcome(
            device=assignment.device,
            device_class=profile.device_class,
            round=assignment.round,
            arm=Arm(sparsity=sparsity, rank=assignment.arm.rank, steps=assignment.arm.steps),
            status=Status.ACCEPTED,
            time_s=trained.prune_s + trained.train_s,
            report=report,
            scores=result.scores,
        )


def rehearse(config: Config) -> Rehearsal:
    """Return the run of `config`; its model and data must be there (`fedcore fetch`)."""
    folder, test = model_folder(config.model.path), test_rows(_data(config, None))
    labels = config.data.labels or label_list(test)
    strategy = _strategy(config, folder, labels)
    source = ModelSource(
        folder=folder,
        labels=labels,
        head=config.model.head,
        dtype=config.model.dtype,
        max_length=config.model.max_length,
        targets=strategy.spec.targets,
    )
    devices = {device.profile.name: device for device in _devices(config, source)}
    totals: Counter[str] = Counter()
    for device in devices.values():
        totals.update(dict(device.profile.label_counts))
    return Rehearsal(
        config=config,
        strategy=strategy,
        devices=devices,
        evaluator=ModelEvaluator(source=source, test=test, train=test),
        tensors=untrained_adapter(config, folder, labels, strategy.spec),
        label_counts=tuple(totals[label] for label in labels) if config.training.label_skew != "ignore" else (),
    )


def _strategy(config: Config, folder: Path, labels: tuple[str, ...]) -> Strategy:
    description = read_config(folder)
    geometry = geometry_from_config(description)
    shapes = {name: entry.shape for name, entry in tensor_index(folder).items()}
    head = resolve_head(description, config.model.head, len(labels), shapes)
    return make_strategy(config, geometry, head.shapes, prior=weight_magnitudes(folder, geometry))


def _devices(config: Config, source: ModelSource) -> Iterator[_Device]:
    names = [(kind, f"{kind.name}-{index}") for kind in config.classes for index in range(1, kind.count + 1)]
    for index, (kind, name) in enumerate(names, start=1):
        rows = device_rows(_data(config, (index, len(names))))
        profile = DeviceProfile(
            name=name,
            device_class=kind.name,
            num_examples=len(rows),
            memory_mb=kind.known_memory_mb,
            label_counts=_counts(rows),
        )
        yield _Device(profile=profile, trainer=Trainer(source, rows, SlowCpu(1.0)), state=TrainingState())


def _counts(rows: Rows) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(rows.labels).items()))


def _data(config: Config, part: tuple[int, int] | None) -> DataOptions:
    data = config.data
    return DataOptions(
        train=data.train,
        test=data.test or None,
        text=data.text_columns,
        label=data.label,
        test_fraction=data.test_fraction,
        shard=part,
        partition=data.partition,
        alpha=data.alpha,
        seed=config.run.seed,
    )
