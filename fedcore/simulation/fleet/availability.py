"""When virtual devices are online: pure functions of a seed, so that equal runs, and resumed ones, see equal times.

A device is online in half-open spans. Three models produce them: always; diurnal, one span a day at an hour of the
device's own; churn, an alternating renewal process with exponential times. A recorded trace replaces all three.

Times are virtual seconds from the beginning of the run.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.boundary import Boundary
from fedcore.core.config.tables import ClassConfig
from fedcore.core.errors import DataError
from fedcore.core.seeds import uniform

DAY_S = 86400.0
COLUMNS = ("device", "start_s", "end_s")

Span = tuple[float, float]  # online in [start, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traces:
    """Recorded spans by device; a device without any is never online."""

    spans: Mapping[str, tuple[Span, ...]]


def read_traces(path: Path) -> Traces:
    """Read a CSV of device,start_s,end_s; the spans of a device are sorted, and merged where they touch or overlap.

    Raises DataError for a missing column, and with the line for a field that is no number or an end before its start.
    """
    recorded: dict[str, list[Span]] = {}
    with (
        Boundary(DataError, f"cannot read the availability trace {path}"),
        path.open(newline="", encoding="utf-8") as file,
    ):
        reader = csv.DictReader(file)
        missing = set(COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise DataError(f"{path}: expected the columns {', '.join(COLUMNS)}; it lacks {sorted(missing)}")
        for number, row in enumerate(reader, start=2):
            recorded.setdefault(row["device"], []).append(_span(row, f"{path} line {number}"))
    return Traces(spans={device: tuple(_merged(sorted(spans))) for device, spans in recorded.items()})


def online_spans(kind: ClassConfig, device: str, seed: int, traces: Traces | None = None) -> Iterator[Span]:
    """Yield the spans in which a device is online, in order; diurnal and churn yield for ever.

    `traces` replace the models of all classes. A diurnal device comes online at the same random hour every day. A
    device under churn alternates exponential times online (mean `session_s`) and offline. Either is online for
    `online_share` of the time, from the first moment on.
    """
    if traces is not None:
        return iter(traces.spans.get(device, ()))
    if kind.availability == "always" or kind.online_share >= 1.0:
        return iter(((0.0, math.inf),))
    return _daily(kind, device, seed) if kind.availability == "diurnal" else _churning(kind, device, seed)


def _daily(kind: ClassConfig, device: str, seed: int) -> Iterator[Span]:
    length_s = kind.online_share * DAY_S
    start_s = (
        uniform(seed, "diurnal", device) - 1.0
    ) * DAY_S  # the span of the day before may reach into the first day
    while True:
        if start_s + length_s > 0:
            yield max(0.0, start_s), start_s + length_s
        start_s += DAY_S


def _churning(kind: ClassConfig, device: str, seed: int) -> Iterator[Span]:
    offline_s = kind.session_s * (1.0 - kind.online_share) / kind.online_share
    now_s = 0.0
    if uniform(seed, "churn", device) >= kind.online_share:
        now_s = _exponential(offline_s, seed, device, "first")
    number = 0
    while True:
        end_s = now_s + _exponential(kind.session_s, seed, device, f"on-{number}")
        yield now_s, end_s
        now_s = end_s + _exponential(offline_s, seed, device, f"off-{number}")
        number += 1


def _exponential(mean_s: float, seed: int, device: str, draw: str) -> float:
    return -mean_s * math.log(uniform(seed, "churn", device, draw))


def _span(row: Mapping[str, str], where: str) -> Span:
    try:
        start_s, end_s = float(row["start_s"]), float(row["end_s"])
    except (TypeError, ValueError):
        got = f"{row['start_s']!r} and {row['end_s']!r}"
        raise DataError(f"{where}: expected two numbers of seconds, got {got}") from None
    if not 0 <= start_s < end_s:
        raise DataError(f"{where}: expected 0 <= start_s < end_s, got {start_s:g} and {end_s:g}")
    return start_s, end_s


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    current: Span | None = None
    for span in spans:
        if current is not None and span[0] <= current[1]:
            current = current[0], max(current[1], span[1])
            continue
        if current is not None:
            yield current
        current = span
    if current is not None:
        yield current
