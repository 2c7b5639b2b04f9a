"""The tables of docs/concepts/scale.md, and where they stand in it: between `<!-- NAME -->` and `<!-- end NAME -->`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.scale.costs import MB, UnitCosts
from benchmarks.scale.fleet import (
    beats_per_s,
    edge_load,
    edges_needed,
    gb_per_day,
    members_per_edge,
    partial_bytes,
    payload,
    round_load,
)
from benchmarks.scale.limits import limits

PAGE = Path("docs/concepts/scale.md")
DEVICES = 1_000_000
COHORTS = (1_000, 10_000, 100_000)
EDGES_OF = (1_000, 5_000, 10_000, 20_000)
ROSTERS = (1_000, 10_000, 100_000, 1_000_000)


def tables(costs: UnitCosts) -> dict[str, str]:
    """Return every table by its name."""
    return {
        "units": _units(costs),
        "edges": _edges(costs),
        "rounds": _rounds(costs),
        "root": _root(costs),
        "files": _files(costs),
        "limits": _limits(costs),
    }


def with_tables(text: str, made: dict[str, str]) -> str:
    """Return the page with its tables replaced; raises MeasurementFailed where one has no place in it."""
    for name, table in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise MeasurementFailed(f"the page has no place for the table {name}: add {begin} and {end}")
        text = f"{before}{begin}\n{table}\n{end}{after}"
    return text


def _units(costs: UnitCosts) -> str:
    moved = payload(costs)
    rows = [
        ("a join: handshake, description, stream, checks", f"{_figure(1e3 * costs.join_cpu_s)} ms", "membership"),
        ("a sign of life, received and answered", f"{_figure(1e3 * costs.beat_cpu_s)} ms", "membership"),
        ("memory of a connected member", f"{_figure(1e3 * costs.member_mb)} kB", "membership"),
        ("a device's round at its parent, bytes apart", f"{_figure(1e3 * costs.client_round_cpu_s)} ms", "data_plane"),
        ("a MB at its parent: TLS, hash, disk, fold", f"{_figure(1e3 * costs.mb_cpu_s)} ms", "data_plane"),
        ("an update of rank 8, bf16+zstd", f"{_figure(moved.up / MB)} MB", "codecs, arithmetic"),
        ("the hand-out of rank 8, float32", f"{_figure(moved.down / MB)} MB", "arithmetic"),
        ("importances of one device", f"{_figure(moved.scores / 1e3)} kB", "arithmetic"),
        ("an edge's partial of 1,000 updates, at most", f"{_figure(partial_bytes(1_000) / MB)} MB", "arithmetic"),
        ("one outcome in an edge's message", f"{_figure(costs.leaf_bytes)} bytes", "roster"),
    ]
    return _table(("one of", "costs", "from"), rows)


def _edges(costs: UnitCosts) -> str:
    rows = []
    for members in sorted({*EDGES_OF, members_per_edge(costs)}):
        load = edge_load(costs, members)
        chosen = members == members_per_edge(costs)
        rows.append(
            (
                f"**{members:,}**" if chosen else f"{members:,}",
                f"{-(-DEVICES // members):,}",
                _figure(load.beats_per_s),
                f"{100 * load.beats_core_share:.0f} %",
                f"{_figure(load.seat_s)} s",
                f"{_figure(load.memory_mb)} MB",
            )
        )
    heads = ("devices per edge", "edges", "signs of life per s", "of one core", "to seat all again", "memory")
    return _table(heads, rows)


def _rounds(costs: UnitCosts) -> str:
    rows = []
    for cohort in COHORTS:
        load = round_load(costs, DEVICES, cohort)
        rows.append(
            (
                f"{cohort:,}",
                f"{load.edges:,}",
                f"{_figure(load.edge_mb)} MB",
                f"{_figure(load.edge_cpu_s)} s",
                f"{_figure(load.root_up_mb)} MB",
                f"{_figure(load.root_scores_mb)} MB",
                f"{_figure(load.root_turn_s)} s",
                f"{_figure(load.member_round_h)} h",
            )
        )
    heads = ("cohort", "edges", "through each edge", "processor time of each", "partials to the root")
    return _table((*heads, "importances to the root", "the root's turn", "a device's turn comes every"), rows)


def _root(costs: UnitCosts) -> str:
    rows = []
    for devices in ROSTERS:
        beats = beats_per_s(devices)
        rows.append(
            (
                f"{devices:,}",
                f"{edges_needed(costs, devices):,}",
                _figure(beats),
                f"{_figure(1e3 * costs.alive_s(devices))} ms",
                _figure(beats * costs.alive_s(devices)),
                _time(costs.seating_s(devices)),
                f"{_figure(costs.turn_s(devices, COHORTS[0]))} s",
                f"{_figure(devices * costs.state_bytes / MB)} MB",
                f"{_figure(devices * costs.joined_bytes / MB)} MB",
            )
        )
    heads = ("devices", "edges", "signs of life per s", "each", "cores for them", "to seat all", "a turn of 1,000")
    return _table((*heads, "state in a commit", "events of all joins"), rows)


def _files(costs: UnitCosts) -> str:
    rows = []
    for cohort in COHORTS:
        growth = gb_per_day(costs, cohort)
        rows.append((f"{cohort:,}", *(f"{_figure(gigabytes)} GB" for gigabytes in growth.values())))
    return _table(("cohort", *(f"`{name}`" for name in gb_per_day(costs, 1))), rows)


def _limits(costs: UnitCosts) -> str:
    rows = [(limit.what, limit.budget, f"{_figure(limit.at)} {limit.of}") for limit in limits(costs)]
    return _table(("what runs out", "budget", "at"), rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float) -> str:
    """Two significant digits, plain: 0.0123 -> 0.012, 1234.5 -> 1,200."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 else f"{rounded:.10f}".rstrip("0").rstrip(".")


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{_figure(seconds / 3600)} h"
    return f"{_figure(seconds / 60)} min" if seconds >= 60 else f"{_figure(seconds)} s"
