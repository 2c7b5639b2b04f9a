"""Evaluation between rounds: accuracy of the global adapter, and exports by class, as a real run's evaluator."""

from dataclasses import dataclass, replace
from pathlib import Path

from fedcore.client.evaluation.model_evaluator import ModelEvaluator
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, EvaluateTask, EvaluatorResult, ExportTask
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.run_log import RunLog
from fedcore.storage.models.checkpoint import file_sha256
from fedcore.transport.payload import put_blob


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvaluation:
    """Measures with `evaluator` and logs the results as a coordinator logs those of its evaluator."""

    evaluator: ModelEvaluator
    engine: Engine
    folder: RunFolder
    log: RunLog

    def evaluate(self, rows: int) -> None:
        """Measure the global adapter on `rows` held-back rows (0: all)."""
        scale = self.engine.config.training.lora_scale
        metrics = self.evaluator.evaluate(dict(self.engine.model.as_downloaded()), rows, scale)
        task = EvaluateTask(adapter=self.engine.model.adapter, rows=rows, lora_scale=scale)
        self.log.evaluated(task, EvaluatorResult(id=0, outcome=metrics))

    def export(self, device_class: str, keep_set: KeepSet) -> None:
        """Export and measure the pruned, merged model of a device class."""
        scale = self.engine.config.training.lora_scale
        out = self.folder.exports / device_class
        outcome = self.evaluator.export(dict(self.engine.model.as_downloaded()), keep_set, scale, out)
        files = tuple(_described(path, out) for path in sorted(out.rglob("*")) if path.is_file())
        task = ExportTask(
            device_class=device_class,
            adapter=self.engine.model.adapter,
            keep_set=put_blob(self.engine.blobs, keep_set.to_bytes(), "keep-set"),
            lora_scale=scale,
        )
        self.log.evaluated(task, EvaluatorResult(id=0, outcome=replace(outcome, files=files)))


def _described(path: Path, folder: Path) -> BlobRef:
    name = path.relative_to(folder).as_posix()
    return BlobRef(id=f"sha256:{file_sha256(path)}", size=path.stat().st_size, name=name)
