"""summary.json: the run's figures, computed from the ledger, so that they cover a resumed run as a whole.

Schema 1 is described in docs/reference/summary.md; keys are added, never renamed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.network_totals import network_totals
from fedcore.server.run.run_log import REFERENCE_KEY, close_key, evaluation_key, export_key
from fedcore.strategies.table import resolve_settings

SCHEMA = 1


def build_summary(
    *, config: Config, ledger: Ledger, strategy: Strategy, state: Json, classes: Sequence[str], status: str
) -> Json:
    """Return the summary of the durable state. Figures that were not measured are None."""
    outcomes = ledger.outcomes()
    rounds = [
        {
            **report,
            "close_s": ledger.get_meta(close_key(number)),
            **_quality(ledger.get_meta(evaluation_key(number, full=False))),
            "results": [*outcomes.get(number, ())],
        }
        for number, report in ledger.reports().items()
    ]
    peaks = _peaks(outcomes)
    return {
        "schema": SCHEMA,
        "run": {
            "name": config.run.name,
            "status": status,
            "seed": config.run.seed,
            "strategy": strategy.name,
            "aggregator": strategy.aggregator.name,
            "bandit": resolve_settings(config).strategy.bandit,
        },
        "global": {
            "untrained": ledger.get_meta(evaluation_key(0, full=False)),
            "final": ledger.get_meta(evaluation_key(0, full=True)),
            "reference": ledger.get_meta(REFERENCE_KEY),
        },
        "classes": {
            name: _class_figures(name, config, strategy, state, ledger.get_meta(export_key(name)), peaks.get(name))
            for name in classes
        },
        "networks": network_totals(row for rows in outcomes.values() for row in rows),
        "totals": {
            "rounds": len(rounds),
            "void_rounds": sum(bool(record["void"]) for record in rounds),
            "duration_s": sum(record["duration_s"] for record in rounds),
            "bytes_up": sum(record["bytes_up"] for record in rounds),
            "bytes_down": sum(record["bytes_down"] for record in rounds),
            "steps": total_steps(outcomes),
        },
        "rounds": rounds,
    }


def total_steps(outcomes: Mapping[int, Sequence[Json]]) -> int:
    """Return the number of optimiser steps in all counted updates."""
    return sum(row["steps"] or 0 for rows in outcomes.values() for row in rows)


def _quality(metrics: Json | None) -> Json:
    names = ("accuracy", "auc", "macro_f1", "loss")
    return {name: metrics[name] if metrics else None for name in names}


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
    heads, channels = keep_set.counts
    figures: dict[str, Any] = {
        "target_sparsity": resolve_settings(config).target_sparsity(name),
        "realised_sparsity": keep_set.sparsity(geometry),
        "heads_kept": heads * geometry.queries_per_unit,
        "heads_dense": geometry.query_heads,
        "channels_kept": channels,
        "channels_dense": geometry.ffn,
        "peak_training_memory_mb": peak_mb,
    }
    for key in ("parameters", "dense_parameters", "size_bytes", "dense_size_bytes", "latency_s", "dense_latency_s"):
        figures[key] = export[key] if export else None
    figures["latency_ratio"] = export["latency_s"] / export["dense_latency_s"] if export else None
    return figures | {"test": export["metrics"] if export else None}
