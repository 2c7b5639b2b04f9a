"""The tasks of an evaluator, whoever carries them out: one of a fleet, or a simulation's own.

What a user gets from a run is one pruned model per class. Once a device of the fleet has trained a pruned model, the
evaluations after rounds therefore measure those models, one class at a time by turns: as the run would deliver it if
it ended now. An evaluation costs no more than that of the dense model, which is measured before, and at the end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.data.label_offsets import lacks_labels
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, EvaluateTask, ExportTask, ReferenceTask
from fedcore.server.aggregate.adapter_blobs import store_adapter
from fedcore.server.aggregate.assemble import untrained_adapter
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run import Run
from fedcore.server.run.summary import total_steps
from fedcore.transport.payload import put_blob


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLabels:
    """What an evaluator must know of the labels on the fleet's devices; by default nothing is known."""

    majority: str = ""  # label of most training rows; "" where devices keep their counts to themselves
    lacking: bool = False  # whether devices lack labels: class models get label offsets


UNKNOWN = FleetLabels()


def fleet_labels(profiles: Iterable[DeviceProfile], labels: Sequence[str], label_skew: str) -> FleetLabels:
    """Return it for these devices and agreed `labels`; `label_skew` is training.label_skew."""
    counts = [dict(profile.label_counts) for profile in profiles]
    rows: Counter[str] = Counter()
    for device in counts:
        rows.update(device)
    most = max(labels, key=lambda label: rows[label], default="")
    return FleetLabels(majority=most if rows[most] else "", lacking=label_skew != "ignore" and lacks_labels(counts))


def round_task(engine: Engine, classes: Sequence[str], rows: int, known: FleetLabels = UNKNOWN) -> EvaluateTask:
    """Return the evaluation after a round on `rows` rows: of the dense model, or of the class whose turn it is.

    The first one, of the untrained adapter, asks for the floors too.
    """
    if engine.has_pruned and classes:
        return class_task(engine, sorted(classes)[engine.counted % len(classes)], rows, known)
    return dense_task(engine, rows, floors=engine.model.adapter.round == 0, majority=known.majority)


def dense_task(engine: Engine, rows: int, *, floors: bool, majority: str = "") -> EvaluateTask:
    """Return an evaluation of the dense model on `rows` rows (0: all)."""
    return EvaluateTask(
        adapter=engine.model.adapter,
        rows=rows,
        lora_scale=engine.config.training.lora_scale,
        floors=floors,
        majority=majority,
    )


def class_task(engine: Engine, device_class: str, rows: int, known: FleetLabels = UNKNOWN) -> EvaluateTask:
    """Return an evaluation, on `rows` rows (0: all), of the model that a device class would get now."""
    keep_set, ref = _stored_keep_set(engine, device_class)
    engine.measured_keep_sets.add(ref.id)
    return EvaluateTask(
        adapter=engine.model.adapter,
        rows=rows,
        lora_scale=engine.config.training.lora_scale,
        keep_set=ref,
        device_class=device_class,
        sparsity=keep_set.sparsity(engine.strategy.spec.geometry),
        offsets=known.lacking,
    )


def export_task(engine: Engine, device_class: str, known: FleetLabels = UNKNOWN) -> ExportTask:
    """Return the export of a device class."""
    _, ref = _stored_keep_set(engine, device_class)
    return ExportTask(
        device_class=device_class,
        adapter=engine.model.adapter,
        keep_set=ref,
        lora_scale=engine.config.training.lora_scale,
        offsets=known.lacking,
    )


def _stored_keep_set(engine: Engine, device_class: str) -> tuple[KeepSet, BlobRef]:
    """Return what the class keeps now, and the blob that an evaluator fetches it by."""
    keep_set = engine.strategy.export_keep_set(engine.state, device_class)
    return keep_set, put_blob(engine.blobs, keep_set.to_bytes(), "keep-set")


def reference_task(engine: Engine, run: Run) -> ReferenceTask:
    """Return training in one place, for as many steps as all devices together: what the result is compared with."""
    config, spec, training = run.config, engine.strategy.spec, run.config.training
    untrained = untrained_adapter(config, run.model, engine.labels, spec)
    return ReferenceTask(
        start=store_adapter(engine.blobs, spec, untrained, 0, ranks=config.strategy.ranks),
        steps=max(1, total_steps(engine.ledger.outcomes())),
        rank=max(config.strategy.ranks),
        batch_size=training.batch_size,
        learning_rate=config.evaluation.reference_learning_rate,
        weight_decay=training.weight_decay,
        lora_scale=training.lora_scale,
        seed=config.run.seed,
    )
