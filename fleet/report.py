"""The end of a run on the terminal: summary.json as tables."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedcore.protocols import Json


def report(summary: Json) -> RenderableType:
    """Return the tables of a finished run."""
    return Group(_rounds(summary), _classes(summary), Text(_closing(summary)))


def _rounds(summary: Json) -> Table:
    table = Table(title="Rounds (phase times: mean over devices, seconds)", title_justify="left", pad_edge=False)
    names = ("round", "updates", "accuracy", "AUC", "macro-F1", "seconds")
    phases = ("download", "prune", "train", "encode", "upload", "aggregate")
    for name in (*names, *phases, "MB up", "MB down"):
        table.add_column(name, justify="right")
    untrained = summary["global"]["untrained"]
    if untrained:
        quality = [_number(untrained[key], 3) for key in ("accuracy", "auc", "macro_f1")]
        table.add_row("untrained", "", *quality, *[""] * (3 + len(phases)))
    for each in summary["rounds"]:
        table.add_row(
            str(each["round"]),
            "void" if each["void"] else f"{each['accepted']}/{each['devices']}",
            *[_number(each[key], 3) for key in ("accuracy", "auc", "macro_f1")],
            _number(each["duration_s"], 1),
            *[_number(each["phase_s"][phase], 2) for phase in phases],
            *[_number(each[key] / 1e6, 1) for key in ("bytes_up", "bytes_down")],
        )
    return table


def _classes(summary: Json) -> Table:
    table = Table(title="Exports by device class", title_justify="left", pad_edge=False)
    for name in ("class", "sparsity", "heads", "channels", "parameters", "MB on disk", "accuracy"):
        table.add_column(name, justify="right" if name != "class" else "left")
    for name in ("latency ms", "of dense", "training MiB"):
        table.add_column(name, justify="right")
    for name, each in summary["classes"].items():
        test: dict[str, Any] = each["test"] or {}
        table.add_row(
            name,
            f"{each['realised_sparsity']:.1%} of {each['target_sparsity']:.0%}",
            f"{each['heads_kept']}/{each['heads_dense']}",
            f"{each['channels_kept']}/{each['channels_dense']}",
            _millions(each["parameters"]),
            _number(each["size_bytes"] and each["size_bytes"] / 1e6, 1),
            _number(test.get("accuracy"), 3),
            _number(each["latency_s"] and each["latency_s"] * 1e3, 1),
            _number(each["latency_ratio"], 2),
            _number(each["peak_training_memory_mb"], 0),
        )
    return table


def _closing(summary: Json) -> str:
    quality = summary["global"]
    parts = []
    for name, label in (("final", "global adapter"), ("reference", "centralised LoRA, as many steps")):
        metrics = quality[name]
        if metrics:
            auc = "" if metrics["auc"] is None else f", AUC {metrics['auc']:.3f}"
            parts.append(
                f"{label}: accuracy {metrics['accuracy']:.3f}{auc}, macro-F1 {metrics['macro_f1']:.3f} "
                f"on {metrics['rows']} held-back rows"
            )
    totals = summary["totals"]
    parts.append(
        f"{totals['steps']} optimiser steps in {totals['rounds']} rounds, {totals['duration_s']:.0f} s; "
        f"{totals['bytes_up'] / 1e6:.1f} MB up, {totals['bytes_down'] / 1e6:.1f} MB down"
    )
    return "\n".join(parts)


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _millions(value: int | None) -> str:
    return "n/a" if value is None else f"{value / 1e6:.2f} M"
