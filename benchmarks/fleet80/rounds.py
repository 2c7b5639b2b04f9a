"""Rounds as figures: time, bytes and arms out of what a run's ledger holds of its devices.

A closed round's length is the mean over its counted devices of what they did and of how long they then waited, so it
falls exactly into download + compute + upload + waiting; sums over rounds do so too.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from fedcore.core.contract.outcome import Status
from fedcore.core.contract.protocols import Json
from fedcore.core.rounds.result import RoundResult

PARTS = ("wait_s", "download_s", "compute_s", "upload_s")


def round_figures(closed: Iterable[RoundResult], outcomes: Iterable[Sequence[Json]]) -> list[dict[str, Any]]:
    """Return one record per round, in order; bytes are sums from the beginning of the run."""
    records: list[dict[str, Any]] = []
    down = up = 0
    for result, rows in zip(closed, outcomes, strict=True):
        counted = [row for row in rows if row["status"] == Status.ACCEPTED]
        down += sum(row["bytes_down"] for row in counted)
        up += sum(row["bytes_up"] for row in counted)
        records.append(
            {
                "round": result.round,
                "void": result.void,
                "closed_s": result.closed_at_s,
                "duration_s": result.closed_at_s - result.opened_at_s,
                **_parts(result, counted),
                "bytes_down": down,
                "bytes_up": up,
                "devices": len(rows),
                "counted": len(counted),
                "sparsity": _mean(counted, "sparsity"),
                "loss_before": _mean(counted, "loss_before"),
                "peak_memory_mb": _mean(counted, "peak_memory_mb"),
                "classes": _classes(counted),
            }
        )
    return records


def _parts(result: RoundResult, counted: Sequence[Json]) -> dict[str, float]:
    duration_s = result.closed_at_s - result.opened_at_s
    if not counted:
        return dict(zip(PARTS, (duration_s, 0.0, 0.0, 0.0), strict=True))
    download, compute, upload = (
        _mean(counted, "download_s"),
        _mean(counted, "prune_s") + _mean(counted, "train_s") + _mean(counted, "encode_s"),
        _mean(counted, "upload_s"),
    )
    return dict(zip(PARTS, (duration_s - download - compute - upload, download, compute, upload), strict=True))


def _classes(counted: Sequence[Json]) -> dict[str, Any]:
    """Mean arms by class; a class without a counted device is absent."""
    names = sorted({row["class"] for row in counted})
    of_class = {name: [row for row in counted if row["class"] == name] for name in names}
    return {
        name: {"devices": len(rows)} | {key: round(_mean(rows, key), 6) for key in ("sparsity", "rank", "steps")}
        for name, rows in of_class.items()
    }


def _mean(rows: Sequence[Json], key: str) -> float:
    return sum(row[key] for row in rows) / len(rows) if rows else 0.0
