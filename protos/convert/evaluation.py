"""The evaluator's tasks and results."""

from fedcore.core.data.figures import Metrics, Sample
from fedcore.core.data.floors import Floor, Floors
from fedcore.core.errors import ProtocolError
from fedcore.protos.convert.blob import ref_from_pb, ref_to_pb, shift_from_pb, shift_to_pb
from fedcore.protos.v1 import evaluation_pb2 as pb
from fedcore.protos.values import (
    EvaluateTask,
    EvaluatorResult,
    EvaluatorTask,
    ExportOutcome,
    ExportTask,
    GlobalAdapter,
    ReferenceTask,
)

EARLIER_FLOOR = ("accuracy", "macro_f1")  # of these, those of a floor
EARLIER = ("accuracy", "auc", "macro_f1", "loss")  # figures with fields of their own, which an earlier version reads


def task_to_pb(value: EvaluatorTask) -> pb.EvaluatorTask:
    """EvaluatorTask value -> message."""
    match value.kind:
        case EvaluateTask() as task:
            evaluate = pb.EvaluateTask(
                adapter=_adapter_to_pb(task.adapter),
                rows=task.rows,
                lora_scale=task.lora_scale,
                keep_set=None if task.keep_set is None else ref_to_pb(task.keep_set),
                device_class=task.device_class,
                sparsity=task.sparsity,
                floors=task.floors,
                majority=task.majority,
                offsets=task.offsets,
            )
            return pb.EvaluatorTask(id=value.id, evaluate=evaluate)
        case ExportTask() as task:
            export = pb.ExportTask(
                device_class=task.device_class,
                adapter=_adapter_to_pb(task.adapter),
                keep_set=ref_to_pb(task.keep_set),
                lora_scale=task.lora_scale,
                offsets=task.offsets,
            )
            return pb.EvaluatorTask(id=value.id, export=export)
        case ReferenceTask() as task:
            reference = pb.ReferenceTask(
                steps=task.steps,
                rank=task.rank,
                batch_size=task.batch_size,
                learning_rate=task.learning_rate,
                weight_decay=task.weight_decay,
                lora_scale=task.lora_scale,
                seed=task.seed,
                start=_adapter_to_pb(task.start),
            )
            return pb.EvaluatorTask(id=value.id, reference=reference)


def task_from_pb(message: pb.EvaluatorTask) -> EvaluatorTask:
    """EvaluatorTask message -> value; raises ProtocolError on an unknown kind."""
    match message.WhichOneof("kind"):
        case "evaluate":
            task = message.evaluate
            return EvaluatorTask(
                id=message.id,
                kind=EvaluateTask(
                    adapter=_adapter_from_pb(task.adapter),
                    rows=task.rows,
                    lora_scale=task.lora_scale,
                    keep_set=ref_from_pb(task.keep_set) if task.HasField("keep_set") else None,
                    device_class=task.device_class,
                    sparsity=task.sparsity,
                    floors=task.floors,
                    majority=task.majority,
                    offsets=task.offsets,
                ),
            )
        case "export":
            export = message.export
            return EvaluatorTask(
                id=message.id,
                kind=ExportTask(
                    device_class=export.device_class,
                    adapter=_adapter_from_pb(export.adapter),
                    keep_set=ref_from_pb(export.keep_set),
                    lora_scale=export.lora_scale,
                    offsets=export.offsets,
                ),
            )
        case "reference":
            reference = message.reference
            return EvaluatorTask(
                id=message.id,
                kind=ReferenceTask(
                    start=_adapter_from_pb(reference.start),
                    steps=reference.steps,
                    rank=reference.rank,
                    batch_size=reference.batch_size,
                    learning_rate=reference.learning_rate,
                    weight_decay=reference.weight_decay,
                    lora_scale=reference.lora_scale,
                    seed=reference.seed,
                ),
            )
    raise ProtocolError(f"evaluator task {message.id} is of an unknown kind; update the client")


def result_to_pb(value: EvaluatorResult) -> pb.EvaluatorResult:
    """EvaluatorResult value -> message."""
    match value.outcome:
        case Metrics() as metrics:
            return pb.EvaluatorResult(
                id=value.id,
                error=value.error,
                metrics=_metrics_to_pb(metrics),
                keep_set=value.keep_set,
                floors=None if value.floors is None else _floors_to_pb(value.floors),
            )
        case ExportOutcome() as outcome:
            report = pb.ExportReport(
                metrics=_metrics_to_pb(outcome.metrics),
                files=[ref_to_pb(ref) for ref in outcome.files],
                parameters=outcome.parameters,
                dense_parameters=outcome.dense_parameters,
                latency_s=outcome.latency_s,
                dense_latency_s=outcome.dense_latency_s,
                dense_size_bytes=outcome.dense_size_bytes,
                label_offsets=outcome.label_offsets,
            )
            return pb.EvaluatorResult(id=value.id, error=value.error, export=report)
        case None:
            return pb.EvaluatorResult(id=value.id, error=value.error or "no result")


def result_from_pb(message: pb.EvaluatorResult) -> EvaluatorResult:
    """EvaluatorResult message -> value."""
    outcome: Metrics | ExportOutcome | None = None
    match message.WhichOneof("kind"):
        case "metrics":
            outcome = _metrics_from_pb(message.metrics)
        case "export":
            report = message.export
            outcome = ExportOutcome(
                metrics=_metrics_from_pb(report.metrics),
                files=tuple(ref_from_pb(ref) for ref in report.files),
                parameters=report.parameters,
                dense_parameters=report.dense_parameters,
                latency_s=report.latency_s,
                dense_latency_s=report.dense_latency_s,
                dense_size_bytes=report.dense_size_bytes,
                label_offsets=tuple(report.label_offsets),
            )
    return EvaluatorResult(
        id=message.id,
        outcome=outcome,
        error=message.error,
        keep_set=message.keep_set,
        floors=_floors_from_pb(message.floors) if message.HasField("floors") else None,
    )


def _adapter_to_pb(value: GlobalAdapter) -> pb.GlobalAdapter:
    return pb.GlobalAdapter(
        round=value.round,
        rank_blocks=[ref_to_pb(ref) for ref in value.rank_blocks],
        head=ref_to_pb(value.head),
        base_shift=shift_to_pb(value.base_shift),
    )


def _adapter_from_pb(message: pb.GlobalAdapter) -> GlobalAdapter:
    return GlobalAdapter(
        round=message.round,
        rank_blocks=tuple(ref_from_pb(ref) for ref in message.rank_blocks),
        head=ref_from_pb(message.head),
        base_shift=shift_from_pb(message.base_shift) if message.HasField("base_shift") else None,
    )


def _metrics_to_pb(value: Metrics) -> pb.Metrics:
    figures = {name: figure for name, figure in value.figures.items() if figure is not None}
    return pb.Metrics(
        figures=figures,
        rows=value.rows,
        answers=value.answers,
        samples=[
            pb.Sample(prompt=sample.prompt, reference=sample.reference, answer=sample.answer)
            for sample in value.samples
        ],
        **{name: figures[name] for name in EARLIER if name in figures},
    )


def _metrics_from_pb(message: pb.Metrics) -> Metrics:
    return Metrics(
        figures=dict(message.figures) if message.figures else _earlier_figures(message),
        rows=message.rows,
        answers=tuple(message.answers),
        samples=tuple(
            Sample(prompt=sample.prompt, reference=sample.reference, answer=sample.answer) for sample in message.samples
        ),
    )


def _earlier_figures(message: pb.Metrics) -> dict[str, float]:
    """Return the figures of an evaluator of an earlier version, which knows classification alone."""
    return {name: getattr(message, name) for name in EARLIER if name != "auc" or message.HasField("auc")}


def _floors_to_pb(value: Floors) -> pb.Floors:
    return pb.Floors(
        majority_label=value.majority_label,
        majority=_floor_to_pb(value.majority),
        tfidf=None if value.tfidf is None else _floor_to_pb(value.tfidf),
        tfidf_rows=value.tfidf_rows,
        cross_validated=value.cross_validated,
    )


def _floors_from_pb(message: pb.Floors) -> Floors:
    return Floors(
        majority_label=message.majority_label,
        majority=_floor_from_pb(message.majority),
        tfidf=_floor_from_pb(message.tfidf) if message.HasField("tfidf") else None,
        tfidf_rows=message.tfidf_rows,
        cross_validated=message.cross_validated,
    )


def _floor_to_pb(value: Floor) -> pb.Floor:
    figures = {name: figure for name, figure in value.figures.items() if figure is not None}
    earlier = {name: figures[name] for name in EARLIER_FLOOR if name in figures}
    return pb.Floor(**earlier, rows=value.rows, figures=figures)


def _floor_from_pb(message: pb.Floor) -> Floor:
    earlier = {name: getattr(message, name) for name in EARLIER_FLOOR}
    return Floor(figures=dict(message.figures) or earlier, rows=message.rows)
