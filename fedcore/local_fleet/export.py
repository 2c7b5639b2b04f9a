"""Export a model after a run, from the run folder alone."""

from dataclasses import dataclass
from pathlib import Path

from fedcore.client.device.libraries import import_libraries
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.errors import ConfigError, RunError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.ordering import counts_at
from fedcore.core.pruning.ordering import keep_set as keep_set_of
from fedcore.core.pruning.scope import common_order
from fedcore.server.aggregate.assemble import read_snapshot
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder, read_settings
from fedcore.server.run.run_log import export_key
from fedcore.storage.models.model_source import model_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """The sparsity of an export, either that of a device class or a number, and the folder to write."""

    device_class: str | None
    sparsity: float | None
    out: Path


def export_run(folder: RunFolder, request: ExportRequest) -> Json:
    """Write a pruned, merged model; raises RunError where no round has closed yet, or nothing was trained."""
    config = read_settings(folder)
    model = model_folder(config.model.path)
    snapshot = read_snapshot(folder, config, model)
    keep_set = _keep_set(
        snapshot.strategy, snapshot.state, request, [device_class.name for device_class in config.classes]
    )
    if not snapshot.tensors.keys() >= snapshot.strategy.spec.shapes().keys():
        raise RunError(
            f'{folder.root} trained nothing, as simulation.training = "none" says; there is no model to export'
        )
    # Import torch only now: it takes seconds, and the errors above should appear at once.
    import_libraries()
    from fedcore.client.evaluation.model_evaluator import merged_model
    from fedcore.client.evaluation.thresholds import add_offsets
    from fedcore.client.training.trainer import ModelSource
    from fedcore.nn.model.export import export_classifier

    source = ModelSource.of(config, model, labels=snapshot.labels, targets=snapshot.strategy.spec.targets)
    classifier = merged_model(source, snapshot.tensors, lambda _: keep_set, config.training.lora_scale)
    add_offsets(classifier, _label_offsets(folder, request.device_class))
    report = export_classifier(classifier, request.out, model, None, template=source.options.template)
    return {
        "sparsity": keep_set.sparsity(snapshot.strategy.spec.geometry),
        "parameters": report.parameters,
        "size_bytes": report.size_bytes,
        "out": str(request.out),
    }


def _keep_set(strategy: Strategy, state: Json, request: ExportRequest, classes: list[str]) -> KeepSet:
    if request.device_class is not None:
        if classes and request.device_class not in classes:
            raise ConfigError(f"no device class {request.device_class!r} in this run; it has {classes}")
        return strategy.export_keep_set(state, request.device_class)
    if request.sparsity is None or not 0 <= request.sparsity < 1:
        raise ConfigError(f"--sparsity {request.sparsity}: expected a number in [0, 1)")
    geometry = strategy.spec.geometry
    if "order" not in state:
        raise RunError(f"strategy {strategy.name} keeps no removal order; export by --class")
    order = common_order(state["order"], geometry)
    return keep_set_of(order, geometry, counts_at(order, geometry, request.sparsity))


def _label_offsets(folder: RunFolder, device_class: str | None) -> tuple[float, ...]:
    """Return the label offsets of a class's export at the end of the run; () where it has none."""
    if device_class is None:
        return ()
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        figures = ledger.get_meta(export_key(device_class)) or {}
    finally:
        ledger.close()
    return tuple(figures.get("label_offsets", ()))
