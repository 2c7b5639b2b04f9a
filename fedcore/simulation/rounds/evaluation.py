"""Evaluation between rounds: accuracy of the global adapter, and exports by class, as a real run's evaluator."""

from dataclasses import dataclass, replace
from pathlib import Path

from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, EvaluateTask, EvaluatorResult, ExportTask, ReferenceTask
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog
from fedcore.storage.file_hash import file_sha256
from fedcore.transport.payload import payload


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvaluation:
    """Measures with `evaluator` and logs the results as a coordinator logs those of its evaluator."""

    evaluator: ModelEvaluator
    engine: Engine
    folder: RunFolder
    log: RunLog

    def evaluate(self, task: EvaluateTask) -> None:
        """Measure the global adapter on the model that `task` names, with the floors if it asks for them."""
        keep_set = None if task.keep_set is None else KeepSet.from_bytes(payload(task.keep_set, self.engine.blobs))
        adapter = dict(self.engine.model.as_downloaded())
        result = EvaluatorResult(
            id=0,
            outcome=self.evaluator.evaluate(adapter, task.rows, task.lora_scale, keep_set, offsets=task.offsets),
            keep_set=task.keep_set.id if task.keep_set else "",
            floors=self.evaluator.floors(task.majority) if task.floors else None,
        )
        self.log.evaluated(task, result)

    def reference(self, task: ReferenceTask, untrained: Tensors) -> None:
        """Train centralised LoRA from the `untrained` adapter on all training rows, and measure it."""
        self.log.evaluated(task, EvaluatorResult(id=0, outcome=self.evaluator.reference(untrained, task)))

    def export(self, task: ExportTask) -> None:
        """Export and measure the pruned, merged model of a device class."""
        out = self.folder.exports / task.device_class
        keep_set = KeepSet.from_bytes(payload(task.keep_set, self.engine.blobs))
        adapter = dict(self.engine.model.as_downloaded())
        outcome = self.evaluator.export(adapter, keep_set, task.lora_scale, out, offsets=task.offsets)
        files = tuple(_described(path, out) for path in sorted(out.rglob("*")) if path.is_file())
        self.log.evaluated(task, EvaluatorResult(id=0, outcome=replace(outcome, files=files)))


def _described(path: Path, folder: Path) -> BlobRef:
    name = path.relative_to(folder).as_posix()
    return BlobRef(id=f"sha256:{file_sha256(path)}", size=path.stat().st_size, name=name)
