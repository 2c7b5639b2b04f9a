"""summary.json: the run's figures, computed from the ledger, so that they cover a resumed run as a whole.

Schema 1 is described in docs/reference/summary.md; keys are added, never renamed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.tasks.table import task_of
from fedcore.core.tasks.task import Task
from fedcore.server.run.floors import floor_figures, floor_warnings
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.network_totals import network_totals
from fedcore.server.run.records import energy_of
from fedcore.server.run.run_log import FLOORS_KEY, REFERENCE_KEY, class_key, close_key, evaluation_key, export_key
from fedcore.strategies.table import resolve_settings

SCHEMA = 1


def build_summary(
    *, config: Config, ledger: Ledger, strategy: Strategy, state: Json, classes: Sequence[str], status: str
) -> Json:
    """Return the summary of the durable state. Figures that were not measured are None."""
    outcomes, task = ledger.outcomes(), task_of(config)
    rounds = [
        {
            **report,
            "close_s": ledger.get_meta(close_key(number)),
            **_quality(task, ledger.get_meta(evaluation_key(number, full=False))),
            "results": [*outcomes.get(number, ())],
        }
        for number, report in ledger.reports().items()
    ]
    peaks = _peaks(outcomes)
    exports = {name: ledger.get_meta(export_key(name)) for name in classes}
    class_figures = {
        name: _class_figures(name, config, strategy, state, exports[name], peaks.get(name))
        | {"test": exports[name]["metrics"] if exports[name] else _metrics(ledger.get_meta(class_key(name)))}
        for name in classes
    }
    untrained, final = (_metrics(ledger.get_meta(evaluation_key(0, full=full))) for full in (False, True))
    floors = floor_figures(ledger.get_meta(FLOORS_KEY), untrained)
    labels = ledger.get_meta("labels") or [*config.data.labels]
    return {
        "schema": SCHEMA,
        "run": {
            "name": config.run.name,
            "status": status,
            "seed": config.run.seed,
            "strategy": strategy.name,
            "aggregator": strategy.aggregator.name,
            "bandit": resolve_settings(config).strategy.bandit,
            "task": task.name,
            "labels": labels,
        },
        "global": {
            "untrained": untrained,
            "final": final,
            "reference": ledger.get_meta(REFERENCE_KEY),
        },
        "floors": floors,
        "warnings": floor_warnings(floors, class_figures, final, labels=labels, headline=task.headline),
        "classes": class_figures,
        "networks": network_totals(row for rows in outcomes.values() for row in rows),
        "totals": {
            "rounds": len(rounds),
            "void_rounds": sum(bool(record["void"]) for record in rounds),
            "duration_s": sum(record["duration_s"] for record in rounds),
            "bytes_up": sum(record["bytes_up"] for record in rounds),
            "bytes_down": sum(record["bytes_down"] for record in rounds),
            "steps": total_steps(outcomes),
            **energy_of(rounds),
        },
        "rounds": rounds,
    }


def total_steps(outcomes: Mapping[int, Sequence[Json]]) -> int:
    """Return the number of optimiser steps in all counted updates."""
    return sum(row["steps"] or 0 for rows in outcomes.values() for row in rows)


def _quality(task: Task, metrics: Json | None) -> Json:
    """Return a round's figures, and of which model they are; one that an earlier version measured was the dense one."""
    return {
        **task.values(metrics),
        "evaluated_class": metrics.get("class") if metrics else None,
        "evaluated_sparsity": metrics.get("sparsity", 0.0) if metrics else None,
        "evaluated_rows": metrics["rows"] if metrics else None,
    }


def _metrics(evaluated: Json | None) -> Json | None:
    """Return the metrics of an evaluation in the ledger, without what says of which model they are."""
    if evaluated is None:
        return None
    return {name: value for name, value in evaluated.items() if name not in ("class", "sparsity")}


def _peaks(outcomes: Mapping[int, Sequence[Json]]) -> dict[str, float]:
    peaks: dict[str, float] = defaultdict(float)
    for rows in outcomes.values():
        for row in rows:
            if row["peak_memory_mb"] is not None:
                peaks[row["class"]] = max(peaks[row["class"]], row["peak_memory_mb"])
    return dict(peaks)


def _class_figures(
    name: str, config: Config, strategy: Strategy, state: Json, export: Json | None, peak_mb: float | None
) -> Json:
    geometry = strategy.spec.geometry
    keep_set = strategy.export_keep_set(state, name)
    heads, channels, _ = keep_set.counts
    figures: dict[str, Any] = {
        "target_sparsity": resolve_settings(config).target_sparsity(name),
        "realised_sparsity": keep_set.sparsity(geometry),
        "heads_kept": heads * geometry.queries_per_unit,
        "heads_dense": geometry.query_heads,
        "channels_kept": channels,
        "channels_dense": geometry.ffn,
        "layers_kept": len(keep_set.layers),
        "layers_dense": geometry.layers,
        "peak_training_memory_mb": peak_mb,
    }
    for key in ("parameters", "dense_parameters", "size_bytes", "dense_size_bytes", "latency_s", "dense_latency_s"):
        figures[key] = export[key] if export else None
    figures["label_offsets"] = list(export["label_offsets"]) if export and export.get("label_offsets") else None
    figures["latency_ratio"] = export["latency_s"] / export["dense_latency_s"] if export else None
    return figures
