"""The tasks of an evaluator, whoever carries them out: one of a fleet, or a simulation's own.

What a user gets from a run is one pruned model per class. Once a device of the fleet has trained a pruned model, the
evaluations after rounds therefore measure those models, one class at a time by turns: as the run would deliver it if
it ended now. An evaluation costs no more than that of the dense model, which is measured before, and at the end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, EvaluateTask, ExportTask, ReferenceTask
from fedcore.server.aggregate.adapter_blobs import store_adapter
from fedcore.server.aggregate.assemble import untrained_adapter
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run import Run
from fedcore.server.run.summary import total_steps
from fedcore.transport.payload import put_blob


def round_task(engine: Engine, classes: Sequence[str], rows: int, majority: str = "") -> EvaluateTask:
    """Return the evaluation after a round on `rows` rows: of the dense model, or of the class whose turn it is.

    The first one, of the untrained adapter, asks for the floors too. `majority` as in EvaluateTask.
    """
    if engine.has_pruned and classes:
        return class_task(engine, sorted(classes)[engine.counted % len(classes)], rows)
    return dense_task(engine, rows, floors=engine.model.adapter.round == 0, majority=majority)


def dense_task(engine: Engine, rows: int, *, floors: bool, majority: str = "") -> EvaluateTask:
    """Return an evaluation of the dense model on `rows` rows (0: all)."""
    return EvaluateTask(
        adapter=engine.model.adapter,
        rows=rows,
        lora_scale=engine.config.training.lora_scale,
        floors=floors,
        majority=majority,
    )


def class_task(engine: Engine, device_class: str, rows: int) -> EvaluateTask:
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
    )


def export_task(engine: Engine, device_class: str) -> ExportTask:
    """Return the export of a device class."""
    _, ref = _stored_keep_set(engine, device_class)
    return ExportTask(
        device_class=device_class,
        adapter=engine.model.adapter,
        keep_set=ref,
        lora_scale=engine.config.training.lora_scale,
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


def majority_label(profiles: Iterable[DeviceProfile], labels: Sequence[str]) -> str:
    """Return the label of most training rows of these devices; "" where they keep their counts to themselves."""
    rows: Counter[str] = Counter()
    for profile in profiles:
        rows.update(dict(profile.label_counts))
    most = max(labels, key=lambda label: rows[label], default="")
    return most if rows[most] else ""
