"""Seconds and bytes of a run's links by network class; they show which share of a round the uplink takes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from fedcore.core.contract.phases import Timing
from fedcore.core.contract.protocols import Json
from fedcore.protos.wire import INLINE_BYTES
from fedcore.server.run.records import TIMED

UNKNOWN = "unknown"  # for devices that report no network: their device class says nothing about their link


def network_totals(rows: Iterable[Json]) -> dict[str, Json]:
    """Return figures by network class, sorted by name, over every counted update in `rows` (outcome records).

    Seconds are sums over updates with phases that fit into their time; shares are shares of the sum of those times.
    Rates leave out updates that travelled inside a message, because a message's transit is not measured.
    """
    groups: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        if row["status"] == "accepted":
            groups[row.get("network") or UNKNOWN].append(row)
    return {name: _totals(groups[name]) for name in sorted(groups)}


def _totals(rows: Sequence[Json]) -> Json:
    timed = [row for row in rows if row.get("timing") == Timing.OK]
    time_s = sum(row["time_s"] for row in timed)
    phase_s = {phase: sum(row[f"{phase}_s"] or 0.0 for row in timed) for phase in TIMED}
    return {
        "devices": len({row["device"] for row in rows}),
        "updates": len(rows),
        "timed_updates": len(timed),
        "clock_faults": sum(row.get("timing") == Timing.CLOCK for row in rows),
        "bytes_up": sum(row["bytes_up"] for row in rows),
        "bytes_down": sum(row["bytes_down"] for row in rows),
        "time_s": time_s,
        "phase_s": phase_s,
        "uplink_share": phase_s["upload"] / time_s if time_s else None,
        "downlink_share": phase_s["download"] / time_s if time_s else None,
        "uplink_mbps": _rate(timed, "bytes_up", "upload_s"),
        "downlink_mbps": _rate(timed, "bytes_down", "download_s"),
    }


def _rate(rows: Sequence[Json], size: str, seconds: str) -> float | None:
    """Megabits per second over the rows with more bytes than a message holds; None if there are none."""
    moved = [row for row in rows if row[size] > INLINE_BYTES and row[seconds] > 0]
    time_s = sum(row[seconds] for row in moved)
    return 8e-6 * sum(row[size] for row in moved) / time_s if moved else None
