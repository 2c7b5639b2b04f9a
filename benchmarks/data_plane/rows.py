"""Ratios between rows, and rows of several runs in one file."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

CASE = ("kind", "devices", "payload", "tiers", "tls", "cohort")
RATIOS = ("share_of_raw_grpc", "times_less_time_than_flwr", "times_flwr_throughput", "ratios_across_runs")
SHOWN = (
    *("kind", "devices", "payload", "tiers", "tls", "s_per_round", "mb_per_s"),
    *("coordinator_peak_mb", "share_of_raw_grpc", "times_less_time_than_flwr"),
)


def with_ratios(rows: Iterable[Row]) -> list[Row]:
    """Return rows with ours compared to bare gRPC of the same fleet and TLS, and to flwr of the same fleet (no TLS).

    `ratios_across_runs` is true where a counterpart comes from another run: the machine may have been another one then.
    """
    plain = [{key: value for key, value in row.items() if key not in RATIOS} for row in rows]
    return [_compared(row, plain) if row["kind"] == "ours" and "error" not in row else row for row in plain]


def merged(earlier: Sequence[Row], later: Sequence[Row]) -> list[Row]:
    """Return `earlier` with the rows of `later` in place of those of the same case, and the new ones at the end."""
    fresh = {_key(row): row for row in later}
    kept = [fresh.pop(_key(row), row) for row in earlier]
    return [*kept, *fresh.values()]


def stored(path: Path) -> list[Row]:
    """Return the rows of an earlier result; none where there is no such file."""
    return list(json.loads(path.read_text(encoding="utf-8"))["rows"]) if path.is_file() else []


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in CASE)


def _compared(row: Row, rows: Sequence[Row]) -> Row:
    fleet = {key: row[key] for key in ("devices", "payload")}
    raw = _found(rows, {**fleet, "kind": "raw_grpc", "tls": row["tls"]})
    flwr = _found(rows, {**fleet, "kind": "flwr"})
    ratios: Row = {}
    if raw is not None:
        ratios["share_of_raw_grpc"] = raw["s_per_round"] / row["s_per_round"]
    if flwr is not None:
        ratios["times_less_time_than_flwr"] = flwr["s_per_round"] / row["s_per_round"]
        ratios["times_flwr_throughput"] = row["mb_per_s"] / flwr["mb_per_s"]
    if ratios:
        ratios["ratios_across_runs"] = any(
            counterpart is not None and counterpart["run"] != row["run"] for counterpart in (raw, flwr)
        )
    return row | ratios


def _found(rows: Sequence[Row], wanted: Row) -> Row | None:
    whole = (row for row in rows if "error" not in row)
    return next((row for row in whole if all(row.get(key) == value for key, value in wanted.items())), None)
